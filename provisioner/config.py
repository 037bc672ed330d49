"""Every setting, its default, and where it is read from.

A setting is given as `c.VolumePool.<name>` in `jupyter_volumes_config.py` or `.json` on the Jupyter config path
(nbclient and papermill have no application that would read a configuration for them), is overridden by the
configuration of the application that starts the kernel (a Jupyter server, with its `--VolumePool.<name>=…`), and
that by the environment variable JUPYTER_VOLUMES_ROOT.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import timedelta
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jupyter_core.paths import jupyter_config_path, jupyter_data_dir
from traitlets import Bool, Callable, Dict, Integer, List, TraitError, TraitType, Unicode, Union
from traitlets.config import Config, Configurable
from traitlets.config.loader import (
    DeferredConfig,
    JSONFileConfigLoader,
    LazyConfigValue,
    PyFileConfigLoader,
)

from .duration import EXPECTED, format_duration, parse_duration
from .errors import ConfigError
from .event import log
from .logins import without_logins
from .policy import Keep, Policy

ROOT_VARIABLE = "JUPYTER_VOLUMES_ROOT"
FILE_NAME = "jupyter_volumes_config"

SECTIONS = ("VolumePool", "VolumeProvisioner")
"""The sections of our own configuration files."""

_LIKENESS = 0.9
"""From which likeness on (`difflib`, 0 to 1) a name is taken for a misspelt one.

A slip has 0.94 or more, SlurmProvisioner and VolumeProvisioner 0.85."""

_KEEP_EXPECTED = 'a count of 1 or more, a duration, or {"count": …, "age": …}'


class Duration(TraitType["timedelta | None", Any]):
    """A timedelta, given in seconds or as text (`"30m"`); None where `"never"` was said; never zero or less."""

    info_text = EXPECTED
    default_value = None
    allow_none = True

    def validate(self, obj: Any, value: Any) -> timedelta | None:
        """Return the timedelta that `value` stands for."""
        try:
            return parse_duration(value)
        except ValueError:
            self.error(obj, value)

    def from_string(self, s: str) -> timedelta | None:
        """Read a command line's value."""
        try:
            return parse_duration(s)
        except ValueError as error:
            raise TraitError(f"{s!r} must be {error}") from None


class VolumePool(Configurable):
    """The settings of a pool; the class bears the name under which users write them.

    Instances are not changed after `load_settings` made them.
    """

    enabled = Bool(True, help="Whether kernels get volumes at all; off, they are refused.").tag(
        config=True
    )
    root = Unicode(
        help="The directory under which all volumes lie; private to its owner. "
        "Default: `volumes` in the Jupyter data directory."
    ).tag(config=True)
    max_volumes = Integer(
        500, min=1, help="How many volumes may have files on disk at the same time."
    ).tag(config=True)
    acquire_timeout = Duration(
        allow_none=True,
        help="How long to wait for a volume that another process holds. Default: refuse at once "
        '(spelled "never": never wait).',
    ).tag(config=True)
    allow_network_root = Bool(
        False,
        help="Accept a root on a network file system. SQLite loses data there as soon as two hosts write; "
        "set this only where a single host uses the root.",
    ).tag(config=True)
    shell = Unicode(
        help="The program that `jupyter volumes shell` runs. Default: $SHELL, else /bin/sh."
    ).tag(config=True)
    shell_args = List(
        Unicode(), help="Arguments given to `shell` before those of the command line."
    ).tag(config=True)
    env = Dict(
        key_trait=Unicode(),
        value_trait=Unicode(),
        help="Variables added to the environment of every kernel that has a volume.",
    ).tag(config=True, expected="a mapping of names to texts")

    allowed_nix_profiles = List(
        Unicode(),
        help="The Nix references that a notebook may ask for (`metadata.volume.nix_profile`); one that ends in `*` "
        "stands for all that begin so. Default: none.",
    ).tag(config=True)
    allow_notebook_requirements = Bool(
        False,
        help="Whether a notebook may ask for Python packages: by a PEP 723 block in its first code cell.",
    ).tag(config=True)

    idle_shutdown = Duration(
        timedelta(hours=2),
        help="Shut down a volume's kernel after being idle that long (by the server extension).",
    ).tag(config=True)
    cull_warning = Duration(
        timedelta(minutes=5),
        help="How long before a kernel is shut down for idleness people are warned.",
    ).tag(config=True)
    cull_connected = Bool(
        False, help="Whether kernels with an open notebook are shut down for idleness too."
    ).tag(config=True)
    cull_interval = Duration(
        timedelta(minutes=1),
        help='How often the server extension looks for idle kernels, at least ("never": no culling).',
    ).tag(config=True)
    max_idle_shutdown = Duration(
        help="The longest `metadata.volume.idle_shutdown` that a notebook may ask for. Default: any, also never."
    ).tag(config=True)
    arbiter = Union(
        [Unicode(), Callable()],
        default_value="",
        help="A callable, or the importable name of one, asked before an idle kernel is shut down: it is called "
        "with the session, the kernel's id and how long it has been idle (timedelta); returning False spares it.",
    ).tag(config=True)
    sweep_interval = Duration(
        timedelta(minutes=5),
        help='How often the server extension sweeps the root ("never": leave it to `jupyter volumes sweep`).',
    ).tag(config=True)
    backup_after = Duration(
        timedelta(minutes=10), help="Back a volume up this long after it was stopped."
    ).tag(config=True)
    prune_after = Duration(
        timedelta(days=14),
        help="Delete a stopped volume's files this long after it was stopped, if they are backed up.",
    ).tag(config=True)
    backup_destination = Unicode(
        help="Where backups lie: a directory, or a URL that fsspec understands. Default: `backups` under the root."
    ).tag(config=True)
    keep_backups = Union(
        [Integer(min=1), Duration(), Dict()],
        default_value=3,
        help="Which older backups stay: a count, an age, or both as "
        '{"count": 3, "age": "90d"} (older ones go when beyond both).',
    ).tag(config=True, expected=_KEEP_EXPECTED)
    backup_exclude = List(
        Unicode(),
        help="Globs, relative to the volume, of what backups leave out (`**` crosses directories).",
    ).tag(config=True)
    max_bytes = Integer(
        None,
        allow_none=True,
        min=1,
        help="How many bytes all volumes with files on disk may hold before stopped, backed-up ones make room.",
    ).tag(config=True)
    headroom = Integer(
        1,
        min=0,
        help="How many of `max_volumes` places a sweep keeps free, so that a person need not wait for an eviction.",
    ).tag(config=True)
    spares = Dict(
        key_trait=Unicode(),
        value_trait=Integer(min=0),
        help="How many hydrated volumes are kept ready for new sessions, by kernelspec; e.g. "
        '{"python3-volume": 2}. Made by the server extension and by `jupyter volumes warm`.',
    ).tag(config=True, expected="a mapping of kernelspecs to whole numbers, 0 or more")
    kernelspec_policy = Dict(
        key_trait=Unicode(),
        value_trait=Dict(),
        help="Settings for the volumes of one kernelspec, by its name: idle_shutdown, backup_after, prune_after, "
        'keep_backups, backup_exclude, backup_destination; e.g. {"python3-volume": {"prune_after": "30d"}}.',
    ).tag(config=True, expected="a mapping of kernelspecs to mappings of settings")

    def __init__(self, **kwargs: Any) -> None:
        self._policies: dict[str, Policy] = {}
        super().__init__(**kwargs)

    def policy(self, kernelspec: str) -> Policy:
        """Return what is due when for volumes of that kernelspec.

        Raises
        ------
        ConfigError
            If `kernelspec_policy` has an unknown name or a value that the setting of that name would refuse.
        """
        # Worked out once: a listing asks for each of its thousand volumes.
        if kernelspec not in self._policies:
            self._policies[kernelspec] = self._make_policy(kernelspec)
        return self._policies[kernelspec]

    def policies(self) -> list[Policy]:
        """Return the general policy and those of the kernelspecs that have their own."""
        return [self.policy(name) for name in ("", *self.kernelspec_policy)]

    def _make_policy(self, kernelspec: str) -> Policy:
        own = self.kernelspec_policy.get(kernelspec, {})
        chosen = _checked_policy(kernelspec, own, "VolumePool")
        values = {name: chosen.get(name, getattr(self, name)) for name in _POLICY_NAMES}
        return Policy(
            idle_shutdown=values["idle_shutdown"],
            backup_after=values["backup_after"],
            prune_after=values["prune_after"],
            keep=_keep(values["keep_backups"], "VolumePool"),
            exclude=tuple(values["backup_exclude"]),
            destination=_checked_destination(values["backup_destination"] or self.destination),
        )

    @property
    def destinations(self) -> list[str]:
        """All places where backups go, each once, the general one first."""
        return list(dict.fromkeys(policy.destination for policy in self.policies()))

    @property
    def root_path(self) -> Path:
        """The root as an absolute path (`ConfigError` if it begins with the `~` of nobody)."""
        root = self.root or os.path.join(jupyter_data_dir(), "volumes")
        expanded = os.path.expanduser(root)
        if expanded.startswith("~"):
            raise ConfigError(
                f"VolumePool.root is {root!r}, whose home directory is not known; write the path in full."
            )
        if not os.path.isabs(expanded):
            raise _relative("VolumePool.root", root)
        return Path(os.path.abspath(expanded))

    @property
    def destination(self) -> str:
        """Where backups lie, the default filled in (`ConfigError` if it depends on the current directory)."""
        given = self.backup_destination
        return _checked_destination(given) if given else str(self.root_path / "backups")

    def summary(self) -> str:
        """Return one line for logs and bug reports; it holds no secret (of `env` only the names)."""
        shown = {
            name: sorted(value) if name == "env" else value
            for name, value in (
                (name, getattr(self, name)) for name in self.trait_names(config=True)
            )
        }
        shown["root"] = str(self.root_path)
        shown["backup_destination"] = without_logins(self.destination)
        return "VolumePool(" + ", ".join(f"{k}={_shown(v)}" for k, v in sorted(shown.items())) + ")"


def _checked_destination(given: str) -> str:
    if "://" not in given and not os.path.isabs(os.path.expanduser(given)):
        raise _relative("VolumePool.backup_destination", given)
    return given


def _relative(name: str, given: str) -> ConfigError:
    return ConfigError(
        f"{name} is {given!r}, which each process would look for in its own current directory; "
        "write the path in full."
    )


_POLICY_NAMES = (
    "idle_shutdown",
    "backup_after",
    "prune_after",
    "keep_backups",
    "backup_exclude",
    "backup_destination",
)


def _shown(value: object) -> str:
    return format_duration(value) if isinstance(value, timedelta) else repr(value)


def _keep(value: object, where: str) -> Keep:
    if isinstance(value, timedelta):
        return Keep(count=1, age=value)
    if value is None:
        return Keep(count=None, age=None)
    if isinstance(value, int):
        return Keep(count=value, age=None)
    if not isinstance(value, Mapping) or not value or set(value) - {"count", "age"}:
        raise ConfigError(f"{where}.keep_backups is {value!r}; it must be {_KEEP_EXPECTED}.")
    count = value.get("count", 1)
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ConfigError(f"{where}.keep_backups has the count {count!r}; use 1 or more.")
    try:
        return Keep(count=count, age=parse_duration(value.get("age")))
    except ValueError as error:
        raise ConfigError(f"{where}.keep_backups: the age must be {error}.") from None


def _checked_policy(kernelspec: str, own: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the settings of one kernelspec as the traits take them."""
    here = f"{where}.kernelspec_policy[{kernelspec!r}]"
    for name in own:
        if name not in _POLICY_NAMES:
            raise ConfigError(f"{here} has {name!r}; use one of {', '.join(_POLICY_NAMES)}.")
    chosen = _checked(VolumePool, own, here, {})
    if "keep_backups" in chosen:
        _keep(chosen["keep_backups"], here)
    return chosen


class Origin(NamedTuple):
    """One place that settings are read from, and what it is called in messages."""

    label: str
    config: Config


def load_settings(application: Config | None = None) -> VolumePool:
    """Read the settings of this process from every place, weakest first.

    Parameters
    ----------
    application
        The configuration of the application that starts the kernel, command line included.

    Raises
    ------
    ConfigError
        For an unknown name, a wrong type or a senseless value; names the trait and the file.
    """
    origins = [*file_origins(), Origin("the application's configuration", application or Config())]
    values: dict[str, Any] = {}
    for origin in origins:
        where = f"{origin.label}: VolumePool"
        own = _checked(VolumePool, section(origin, VolumePool.__name__), where, values)
        if "keep_backups" in own:
            _keep(own["keep_backups"], where)
        for kernelspec, policy in own.get("kernelspec_policy", {}).items():
            _checked_policy(kernelspec, policy, where)
        values.update(own)
    if root := os.environ.get(ROOT_VARIABLE):
        values["root"] = root
    settings = VolumePool(**values)
    # From here on the same directory, wherever the process moves to.
    settings.root = str(settings.root_path)
    return settings


def file_config() -> Config:
    """Return what the configuration files say, for any section; the first directories on the path are the strongest."""
    merged = Config()
    for origin in file_origins():
        merged.merge(origin.config)
    return merged


def file_origins() -> Iterator[Origin]:
    """Yield the configuration files that exist, weakest first; `.json` is stronger than `.py`, as for all of Jupyter.

    Raises
    ------
    ConfigError
        If a file cannot be read or executed, or has a section that looks like a misspelt one of ours.
    """
    for directory in reversed(jupyter_config_path()):
        for loader, suffix in ((PyFileConfigLoader, ".py"), (JSONFileConfigLoader, ".json")):
            path = Path(directory, FILE_NAME + suffix)
            try:
                if not path.is_file():
                    continue
                origin = Origin(str(path), loader(path.name, path=directory).load_config())
            except (Exception, SystemExit) as error:  # a .py file may raise anything
                reason = f"{type(error).__name__}: {error}"
                raise ConfigError(f"{path} cannot be read ({reason}); correct it.") from error
            _check_sections(origin)
            yield origin


def _check_sections(origin: Origin) -> None:
    """Refuse what looks like a section of ours and is none; warn of any other that nobody reads from this file.

    A configuration file may hold sections of whoever else reads it, and of nobody yet: that is Jupyter's habit. But
    what somebody has set and misspelt must not be left unset without a word.
    """
    known = {name.lower(): name for name in SECTIONS}
    for name, content in origin.config.items():
        if name in SECTIONS or content == {}:  # a file that looks at a section makes it
            continue
        if near := get_close_matches(name.lower(), known, 1, _LIKENESS):
            raise ConfigError(
                f"{origin.label}: {name} is not a section; did you mean {known[near[0]]}?"
            )
        _warn_of_section(origin.label, name)


@cache  # the files are read at each start of a kernel
def _warn_of_section(label: str, name: str) -> None:
    log.warning(
        "%s: %s is read by nobody; this file is for %s, and what is for others belongs into theirs, such as "
        "jupyter_server_config.py.",
        label,
        name,
        " and ".join(SECTIONS),
    )


def section(origin: Origin, name: str) -> Mapping[str, Any]:
    """Return the settings that a place has for the class `name`; never creates the section.

    Raises
    ------
    ConfigError
        If it is no mapping.
    """
    found = origin.config.get(name, {})
    if not isinstance(found, Mapping):
        raise ConfigError(
            f"{origin.label}: {name} is {found!r}; it must be a mapping of settings to values."
        )
    return found


def plain(trait: TraitType[Any, Any], value: object, earlier: object) -> object:
    """Return a configured value as it is meant: read from a command line's text, or added to what was there.

    Parameters
    ----------
    trait
        What it is for.
    value
        As the loader left it.
    earlier
        What weaker places say, which `c.VolumePool.<name>.append(…)` and its like change.
    """
    if isinstance(value, LazyConfigValue):
        return value.get_value(earlier)
    if isinstance(value, DeferredConfig):
        return value.get_value(trait)
    return value


def _checked(
    traits: type[Configurable], given: Mapping[str, Any], where: str, earlier: Mapping[str, Any]
) -> dict[str, Any]:
    """Return `given` as the traits take it, or refuse the first value that they do not."""
    known = traits.class_traits(config=True)
    checked: dict[str, Any] = {}
    for name, value in given.items():
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(sorted(known))}."
            raise ConfigError(f"{where}.{name} is not a setting; {hint}")
        trait = known[name]
        try:
            before = earlier[name] if name in earlier else trait.default()
            value = plain(trait, value, before)
            if isinstance(value, bool) and not isinstance(trait, Bool):
                raise TraitError("Python takes True for 1; nobody means that.")
            checked[name] = getattr(traits(**{name: value}), name)
        except (TraitError, ValueError) as error:
            raise ConfigError(
                f"{where}.{name} is {told(name, value)}; it must be {_expected(trait)}."
            ) from error
    return checked


def told(name: str, value: object) -> str:
    """Return a value as messages show it: without logins, and of variables, which may be secrets, only the names."""
    if name in _SECRET and isinstance(value, Mapping):
        return f"a mapping with {', '.join(map(repr, value)) or 'nothing'}"
    return "not shown" if name in _SECRET else without_logins(repr(value))


_SECRET = frozenset({"env", "launcher_config"})


def _expected(trait: TraitType[Any, Any]) -> str:
    """Return what a trait takes, as a clause; traitlets' own leaves out bounds and what a mapping holds."""
    said = trait.metadata.get("expected")
    if isinstance(said, str):
        return said
    if isinstance(trait, Integer):
        return f"a whole number, {trait.min} or more"
    return trait.info()
