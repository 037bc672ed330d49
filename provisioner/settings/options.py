"""What a kernelspec may declare: the `config` stanza of its kernel.json.

It defines the environment of its kernels and nothing else, for it beats every other configuration; what concerns
the pool is `config.VolumePool`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import Any

from traitlets import Bool, Dict, Enum, List, TraitError, Unicode, Union
from traitlets.config import Config, Configurable

from provisioner.core.errors import ConfigError
from provisioner.settings.sources import Origin, file_config, section
from provisioner.settings.values import Duration, plain, told

ENTRY_POINTS = "provisioner.hydration_steps"
"""The entry point group of further hydration steps.

An entry point's name is the option that it adds to kernel.json. It loads a function that takes the option's
value, as JSON has it, and returns a `Step`; for a value it does not like it raises `ConfigError`.
"""


class KernelOptions(Configurable):
    """The options of a kernelspec whose kernels have volumes."""

    launcher = Unicode(
        "local-provisioner", help="The provisioner that really starts the kernel."
    ).tag(config=True)
    launcher_config = Dict(
        key_trait=Unicode(), help="The `config` stanza handed to the launcher."
    ).tag(config=True, expected="a mapping")
    workdir = Enum(
        ["volume", "notebook"],
        "volume",
        help="The kernel's working directory: its volume, or the notebook's own directory.",
    ).tag(config=True)
    env = Dict(
        key_trait=Unicode(),
        value_trait=Unicode(),
        help="Variables added to the kernel's environment; `${NAME}` stands for the value NAME has there.",
    ).tag(config=True, expected="a mapping of names to texts")
    overlay = Bool(
        True,
        help="Whether a Python kernel gets an environment of its own over that of its interpreter.",
    ).tag(config=True)
    bootstrap_command = List(
        Unicode(),
        help="An argument list, run once in each volume and again when it changes.",
    ).tag(config=True)
    bootstrap_timeout = Duration(
        timedelta(hours=1), help="How long `bootstrap_command` may take."
    ).tag(config=True)
    nix_profile = Unicode(
        None,
        allow_none=True,
        help="A flake reference, a shell.nix, a store path or a profile directory.",
    ).tag(config=True)
    nix_watch = List(
        Unicode(), help="Further files whose change makes the Nix environment be made again."
    ).tag(config=True)
    stale = Enum(
        ["fail", "warn"],
        "fail",
        help='What to do where an environment cannot be renewed: fail, or use the old one and "warn".',
    ).tag(config=True)
    requirements = Union(
        [List(Unicode()), Unicode()],
        default_value=None,
        allow_none=True,
        help="Python requirements that uv installs into the volume: a list, or the path of a file.",
    ).tag(config=True)
    requires_python = Unicode(
        None, allow_none=True, help="What the environment's Python must satisfy, e.g. `>=3.11`."
    ).tag(config=True)
    pyproject = Unicode(
        None, allow_none=True, help="A directory with pyproject.toml and uv.lock, synced by uv."
    ).tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        self.further: dict[str, object] = {}
        super().__init__(**kwargs)

    def take(self, stanza: Mapping[str, Any], kernelspec: str) -> None:
        """Set what the configuration and then kernel.json say.

        Parameters
        ----------
        stanza
            The `config` stanza of kernel.json.
        kernelspec
            The kernelspec's name, for messages.

        Raises
        ------
        ConfigError
            For an unknown option or one of a wrong type, in one line that names it and where it stands.
        """
        config = Config(file_config())
        config.merge(self.config)
        configured = Origin("the configuration", config)
        for name, value in section(configured, "VolumeProvisioner").items():
            self._take(name, value, f"c.VolumeProvisioner.{name}")
        for name, value in stanza.items():
            self._take(name, value, f"kernel.json of {kernelspec!r}: config.{name}")

    def _load_config(self, *_: Any, **__: Any) -> None:
        """Leave to `take` what traitlets would do when this is made: its errors name no place and no cure."""

    def _take(self, name: str, value: object, where: str) -> None:
        known = set(KernelOptions.class_trait_names(config=True))
        if name not in known:
            added = {entry.name for entry in entry_points(group=ENTRY_POINTS)}
            if name not in added:
                near = get_close_matches(name, known | added, 1)
                names = ", ".join(sorted(known | added))
                hint = f"did you mean {near[0]}?" if near else f"use one of {names}."
                raise ConfigError(f"{where} is not an option; {hint}")
            self.further[name] = value
            return
        trait = self.traits()[name]
        try:
            value = plain(trait, value, getattr(self, name))
            self.set_trait(name, value)
        except (TraitError, ValueError) as error:
            expected = trait.metadata.get("expected") or trait.info()
            raise ConfigError(f"{where} is {told(name, value)}; it must be {expected}.") from error
        if name == "env":
            _check_variables(self.env, where)

    def having(
        self, further: Mapping[str, object] | None = None, **values: object
    ) -> KernelOptions:
        """Return a copy with some options changed.

        Parameters
        ----------
        further
            The options of further packages; as they are where it is None.
        values
            The changed options.
        """
        copy = KernelOptions()
        copy.further = dict(self.further if further is None else further)
        for name in KernelOptions.class_trait_names(config=True):
            setattr(copy, name, values.pop(name, getattr(self, name)))
        if values:
            raise TypeError(f"no option is named {', '.join(values)}")
        return copy


def _check_variables(env: Mapping[str, str], where: str) -> None:
    """Refuse what no environment can hold; the operating system's own words would name neither place nor variable."""
    for name, value in env.items():
        if not name or "=" in name or "\0" in name + value:
            raise ConfigError(
                f"{where} has {name!r}, which cannot be a variable: names are not empty and hold no '=', and neither "
                "names nor values hold a NUL; correct it."
            )
