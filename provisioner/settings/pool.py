"""Every setting, its default, and where it is read from.

A setting is given as `c.VolumePool.<name>` in `jupyter_volumes_config.py` or `.json` on the Jupyter config path
(nbclient and papermill have no application that would read a configuration for them), is overridden by the
configuration of the application that starts the kernel (a Jupyter server, with its `--VolumePool.<name>=…`), and
that by the environment variable JUPYTER_VOLUMES_ROOT.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_data_dir
from traitlets import Bool, Callable, Dict, Integer, List, Unicode, Union
from traitlets.config import Config, Configurable

from provisioner.core.duration import format_duration
from provisioner.core.errors import ConfigError
from provisioner.core.logins import without_logins
from provisioner.core.policy import Policy
from provisioner.settings.sources import Origin, file_origins, section
from provisioner.settings.values import KEEP_EXPECTED, Duration, checked, keep

ROOT_VARIABLE = "JUPYTER_VOLUMES_ROOT"

_POLICY_NAMES = (
    "idle_shutdown",
    "backup_after",
    "prune_after",
    "keep_backups",
    "backup_exclude",
    "backup_destination",
)


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
    ).tag(config=True, expected=KEEP_EXPECTED)
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
            keep=keep(values["keep_backups"], "VolumePool"),
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
        own = _checked(section(origin, VolumePool.__name__), where, values)
        for kernelspec, policy in own.get("kernelspec_policy", {}).items():
            _checked_policy(kernelspec, policy, where)
        values.update(own)
    if root := os.environ.get(ROOT_VARIABLE):
        values["root"] = root
    settings = VolumePool(**values)
    # From here on the same directory, wherever the process moves to.
    settings.root = str(settings.root_path)
    return settings


def _checked_policy(kernelspec: str, own: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the settings of one kernelspec as the traits take them."""
    here = f"{where}.kernelspec_policy[{kernelspec!r}]"
    for name in own:
        if name not in _POLICY_NAMES:
            raise ConfigError(f"{here} has {name!r}; use one of {', '.join(_POLICY_NAMES)}.")
    return _checked(own, here, {})


def _checked(given: Mapping[str, Any], where: str, earlier: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as the traits take them, and see to what the trait of `keep_backups` does not."""
    chosen = checked(VolumePool, given, where, earlier)
    if "keep_backups" in chosen:
        keep(chosen["keep_backups"], where)
    return chosen


def _checked_destination(given: str) -> str:
    if "://" not in given and not os.path.isabs(os.path.expanduser(given)):
        raise _relative("VolumePool.backup_destination", given)
    return given


def _relative(name: str, given: str) -> ConfigError:
    return ConfigError(
        f"{name} is {given!r}, which each process would look for in its own current directory; "
        "write the path in full."
    )


def _shown(value: object) -> str:
    return format_duration(value) if isinstance(value, timedelta) else repr(value)
