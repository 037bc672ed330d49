"""The options that a kernelspec may declare, in the `config` stanza of its kernel.json.

They define the environment of its kernels and nothing else, because they override every other configuration; the
settings of the pool are those of `VolumePool`. Each option is declared here once: the flags of
`jupyter volumes kernelspec add` and the tables of the documentation are derived from these traits.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from importlib.metadata import entry_points
from typing import Any

from traitlets import Bool, Dict, Enum, List, Unicode, Union
from traitlets.config import Configurable

from provisioner.settings.sources import Origin, file_config, section
from provisioner.settings.values import Duration, checked, unknown_name

ENTRY_POINTS = "provisioner.hydration_steps"
"""The entry point group of the hydration steps of other packages.

The name of an entry point is the option that it adds to kernel.json. The entry point loads a function that takes the
option's value as JSON gives it and returns a `Step`, or raises `ConfigError` for a value that it refuses.
"""


class KernelOptions(Configurable):
    """The options of a kernelspec whose kernels have volumes.

    Further metadata of a trait is for its flag (see `provisioner.cli.flags`): `kind`, how the text of a command line
    becomes the value, where the type of the trait does not say it; and `metavar`.
    """

    launcher = Unicode(
        "local-provisioner", help="The provisioner that starts the process of the kernel."
    ).tag(config=True, metavar="PROVISIONER")
    launcher_config = Dict(
        key_trait=Unicode(), help="The launcher's own `config` stanza, a JSON object."
    ).tag(config=True, expected="a mapping", kind="json")
    workdir = Enum(
        ["volume", "notebook"],
        "volume",
        help="The working directory of the kernel: its volume, or the directory of its notebook.",
    ).tag(config=True)
    env = Dict(
        key_trait=Unicode(),
        value_trait=Unicode(),
        help="Variables added to the kernel's environment; `${NAME}` stands for the value of NAME there.",
    ).tag(config=True, expected="a mapping of names to texts", kind="variables")
    overlay = Bool(
        True,
        help="Give each volume of a Python kernel an environment of its own, layered over the packages of the "
        "kernel's interpreter.",
    ).tag(config=True)
    bootstrap_command = List(
        Unicode(),
        help="A command that runs once in each volume and again when it changes: a list of arguments.",
    ).tag(config=True, kind="command")
    bootstrap_timeout = Duration(
        timedelta(hours=1),
        help='How long `bootstrap_command` may run, such as "30m".',
    ).tag(config=True, metavar="TIME")
    nix_profile = Unicode(
        None,
        allow_none=True,
        help="The Nix environment: a flake reference, a shell.nix, a store path or a profile directory.",
    ).tag(config=True, kind="nix")
    nix_watch = List(
        Unicode(), help="Further files; when one changes, the Nix environment is made again."
    ).tag(config=True, kind="paths")
    stale = Enum(
        ["fail", "warn"],
        "fail",
        help='When an environment cannot be renewed: "fail", or "warn" and use the earlier one.',
    ).tag(config=True)
    requirements = Union(
        [List(Unicode()), Unicode()],
        default_value=None,
        allow_none=True,
        help="Requirements of Python packages, which uv installs into the volume: a list, or the path of a file.",
    ).tag(config=True, kind="requirements")
    requires_python = Unicode(
        None,
        allow_none=True,
        help='The Python versions that the environment may have, such as ">=3.11".',
    ).tag(config=True, metavar="VERSIONS")
    pyproject = Unicode(
        None,
        allow_none=True,
        help="A directory with pyproject.toml and uv.lock, which uv syncs into the volume.",
    ).tag(config=True, kind="path", metavar="DIR")

    def __init__(self, **kwargs: Any) -> None:
        self.further: dict[str, object] = {}
        super().__init__(**kwargs)

    def take(self, stanza: Mapping[str, Any], kernelspec: str) -> None:
        """Set the options from the configuration, then those from the `config` stanza of kernel.json.

        Raises `ConfigError` for an unknown option or one of a wrong type, in one line that names it and its source.
        """
        config = file_config()
        config.merge(self.config)
        configured = section(Origin("the configuration", config), "VolumeProvisioner")
        self._take(configured, "c.VolumeProvisioner")
        self._take(stanza, f"kernel.json of {kernelspec!r}: config")

    def having(
        self, further: Mapping[str, object] | None = None, **values: object
    ) -> KernelOptions:
        """Return a copy with some options changed; `further` are those of other packages."""
        copy = KernelOptions(**{**self.trait_values(config=True), **values})
        copy.further = dict(self.further if further is None else further)
        return copy

    def _load_config(self, *_: Any, **__: Any) -> None:
        """Leave the configuration to `take`: the errors of traitlets name neither its source nor a cure."""

    def _take(self, given: Mapping[str, Any], where: str) -> None:
        own = KernelOptions.class_trait_names(config=True)
        further = {name: value for name, value in given.items() if name not in own}
        added = {entry.name for entry in entry_points(group=ENTRY_POINTS)} if further else set()
        for name in further:
            if name not in added:
                raise unknown_name(name, where, {*own, *added}, "an option")
        known = {name: value for name, value in given.items() if name in own}
        earlier = self.trait_values(config=True)
        for name, value in checked(KernelOptions, known, where, earlier, "an option").items():
            setattr(self, name, value)
        self.further.update(further)
