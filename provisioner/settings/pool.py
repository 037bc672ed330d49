"""Every setting of the pool, its default, and the order of its sources.

A user sets `c.VolumePool.<name>` in `jupyter_volumes_config.py` or `.json` on the Jupyter config path: nbclient and
papermill have no application that could read a configuration for them. The configuration of the application that
starts the kernel (a Jupyter server, with its `--VolumePool.<name>=…`) overrides these files, and the environment
variable JUPYTER_VOLUMES_ROOT overrides both.
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
from provisioner.settings.values import Duration, KeepRule, checked, keep_rule

ROOT_VARIABLE = "JUPYTER_VOLUMES_ROOT"

_POLICY_NAMES = (
    "idle_shutdown",
    "backup_after",
    "prune_after",
    "keep_backups",
    "backup_exclude",
    "backup_destination",
)
"""The settings that a kernelspec may have of its own, in the order of the fields of `Policy`."""


class VolumePool(Configurable):
    """The settings of a pool; the class has the name under which users write them.

    Instances do not change after `load_settings` has made them.
    """

    enabled = Bool(
        True, help="Whether kernels get volumes; if not, a kernel that needs one is refused."
    ).tag(config=True)
    root = Unicode(
        help="The directory that holds all volumes; only its owner can read it. "
        "Default: `volumes` in the Jupyter data directory."
    ).tag(config=True)
    max_volumes = Integer(
        500, min=1, help="How many volumes may have files on disk at the same time."
    ).tag(config=True)
    acquire_timeout = Duration(
        help="How long a kernel's start waits for a volume that another process holds. "
        'Default: "never": the start does not wait, and is refused at once.',
    ).tag(config=True)
    allow_network_root = Bool(
        False,
        help="Accept a root on a network file system. SQLite loses data there as soon as two hosts write: "
        "set this only if a single host uses the root.",
    ).tag(config=True)
    shell = Unicode(
        help="The program that `jupyter volumes shell` runs. Default: $SHELL, or /bin/sh if that is not set."
    ).tag(config=True)
    shell_args = List(
        Unicode(), help="Arguments for `shell`; those of the command line follow them."
    ).tag(config=True)
    env = Dict(
        key_trait=Unicode(),
        value_trait=Unicode(),
        help="Variables added to the environment of every kernel with a volume; `${NAME}` stands for the value of "
        "NAME there.",
    ).tag(config=True, expected="a mapping of names to texts")

    allowed_nix_profiles = List(
        Unicode(),
        help="The Nix references that a notebook may request in `metadata.volume.nix_profile`; one that ends in `*` "
        "allows all that begin with the text before it. Default: none.",
    ).tag(config=True)
    allow_notebook_requirements = Bool(
        False,
        help="Whether a notebook may request Python packages, in a PEP 723 block in its first code cell.",
    ).tag(config=True)

    idle_shutdown = Duration(
        timedelta(hours=2),
        help="The server extension shuts down a volume's kernel that has been idle this long.",
    ).tag(config=True)
    cull_warning = Duration(
        timedelta(minutes=5),
        help="How long before an idle kernel is shut down its users are warned.",
    ).tag(config=True)
    cull_connected = Bool(
        False, help="Whether an idle kernel is shut down although its notebook is open."
    ).tag(config=True)
    cull_interval = Duration(
        timedelta(minutes=1),
        help="The longest time between two checks for idle kernels by the server extension "
        '("never": no kernel is shut down for being idle).',
    ).tag(config=True)
    max_idle_shutdown = Duration(
        help="The longest `metadata.volume.idle_shutdown` that a notebook may request. "
        'Default: "never", which allows any, "never" included.'
    ).tag(config=True)
    arbiter = Union(
        [Unicode(), Callable()],
        default_value="",
        help="A callable, or its importable name, that is called before an idle kernel is shut down, with the "
        "session, the kernel's id and its idle time (timedelta); if it returns False, the kernel stays.",
    ).tag(config=True)
    sweep_interval = Duration(
        timedelta(minutes=5),
        help='How often the server extension sweeps the root ("never": only `jupyter volumes sweep` does).',
    ).tag(config=True)
    backup_after = Duration(
        timedelta(minutes=10), help="How long after its stop a volume is backed up."
    ).tag(config=True)
    prune_after = Duration(
        timedelta(days=14),
        help="How long after its stop a volume's files are deleted from disk, if they are backed up.",
    ).tag(config=True)
    backup_destination = Unicode(
        help="The destination of backups: a directory, or a URL of fsspec. Default: `backups` in the root."
    ).tag(config=True)
    keep_backups = KeepRule(
        default_value=3,
        help="Which older backups of a volume are kept: a count, an age, or both as "
        '{"count": 3, "age": "90d"} (a backup that exceeds both is deleted).',
    ).tag(config=True)
    backup_exclude = List(
        Unicode(),
        help="Globs, relative to the volume, of the files that backups omit (`**` matches across directories).",
    ).tag(config=True)
    max_bytes = Integer(
        None,
        allow_none=True,
        min=1,
        help="How many bytes the volumes with files on disk may hold together; beyond that, stopped volumes that are "
        "backed up are evicted. Default: no limit.",
    ).tag(config=True)
    headroom = Integer(
        1,
        min=0,
        help="How many volumes below `max_volumes` a sweep stays, so that the start of a kernel need not wait for an "
        "eviction.",
    ).tag(config=True)
    spares = Dict(
        key_trait=Unicode(),
        value_trait=Integer(min=0),
        help="How many hydrated volumes are kept ready for new sessions, by kernelspec, such as "
        '{"python3-volume": 2}. The server extension and `jupyter volumes warm` make them.',
    ).tag(config=True, expected="a mapping of kernelspecs to whole numbers, 0 or more")
    kernelspec_policy = Dict(
        key_trait=Unicode(),
        value_trait=Dict(),
        help="Settings for the volumes of one kernelspec, by its name: idle_shutdown, backup_after, prune_after, "
        'keep_backups, backup_exclude, backup_destination; such as {"python3-volume": {"prune_after": "30d"}}.',
    ).tag(config=True, expected="a mapping of kernelspecs to mappings of settings")

    def __init__(self, **kwargs: Any) -> None:
        self._policies: dict[str, Policy] = {}
        super().__init__(**kwargs)

    def policy(self, kernelspec: str) -> Policy:
        """Return the policy for volumes of that kernelspec.

        Raises `ConfigError` if `kernelspec_policy` has an unknown name or a value that the setting of that name
        refuses.
        """
        # Computed once: `jupyter volumes list` asks for each of a thousand volumes.
        if kernelspec not in self._policies:
            own = self.kernelspec_policy.get(kernelspec, {})
            chosen = _checked_policy(kernelspec, own, "VolumePool")
            idle, backup, prune, keep, exclude, destination = (
                chosen.get(name, getattr(self, name)) for name in _POLICY_NAMES
            )
            destination = _checked_destination(destination or self.destination)
            self._policies[kernelspec] = Policy(
                idle, backup, prune, keep_rule(keep), tuple(exclude), destination
            )
        return self._policies[kernelspec]

    def policies(self) -> list[Policy]:
        """Return the general policy, then those of the kernelspecs that have their own."""
        return [self.policy(name) for name in ("", *self.kernelspec_policy)]

    @property
    def destinations(self) -> list[str]:
        """All destinations of backups, each once, the general one first."""
        return list(dict.fromkeys(policy.destination for policy in self.policies()))

    @property
    def root_path(self) -> Path:
        """The root as an absolute path (`ConfigError` if it begins with the `~` of an unknown user)."""
        root = self.root or os.path.join(jupyter_data_dir(), "volumes")
        expanded = os.path.expanduser(root)
        if expanded.startswith("~"):
            raise ConfigError(
                f"VolumePool.root is {root!r}, whose home directory is not known; write the full path."
            )
        _require_full("VolumePool.root", root)
        return Path(os.path.abspath(expanded))

    @property
    def destination(self) -> str:
        """The general destination of backups (`ConfigError` if it depends on the current directory)."""
        given = self.backup_destination
        return _checked_destination(given) if given else str(self.root_path / "backups")

    def summary(self) -> str:
        """Return one line for logs and bug reports; it holds no secret (the names in `env`, not its values)."""
        values = {
            **self.trait_values(config=True),
            "env": sorted(self.env),
            "root": str(self.root_path),
            "backup_destination": without_logins(self.destination),
        }
        shown = (
            f"{name}={format_duration(value) if isinstance(value, timedelta) else repr(value)}"
            for name, value in sorted(values.items())
        )
        return f"VolumePool({', '.join(shown)})"


def load_settings(application: Config | None = None) -> VolumePool:
    """Return the settings of this process, read from every source.

    `application` is the configuration of the application that starts the kernel, command line included.

    Raises `ConfigError` for an unknown name or a value that is refused; the message names the setting and its source.
    """
    origins = [*file_origins(), Origin("the application's configuration", application or Config())]
    values: dict[str, Any] = {}
    for origin in origins:
        where = f"{origin.label}: VolumePool"
        own = checked(VolumePool, section(origin, VolumePool.__name__), where, values)
        for kernelspec, policy in own.get("kernelspec_policy", {}).items():
            _checked_policy(kernelspec, policy, where)
        values.update(own)
    if root := os.environ.get(ROOT_VARIABLE):
        values["root"] = root
    settings = VolumePool(**values)
    # A later change of the process's working directory must not change the root.
    settings.root = str(settings.root_path)
    return settings


def _checked_policy(kernelspec: str, own: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the settings of one kernelspec as the traits hold them."""
    here = f"{where}.kernelspec_policy[{kernelspec!r}]"
    for name in own:
        if name not in _POLICY_NAMES:
            raise ConfigError(f"{here} has {name!r}; use one of {', '.join(_POLICY_NAMES)}.")
    return checked(VolumePool, own, here, {})


def _checked_destination(given: str) -> str:
    if "://" not in given:
        _require_full("VolumePool.backup_destination", given)
    return given


def _require_full(name: str, path: str) -> None:
    if not os.path.isabs(os.path.expanduser(path)):
        raise ConfigError(
            f"{name} is {path!r}, which each process would look for in its own current directory; "
            "write the full path."
        )
