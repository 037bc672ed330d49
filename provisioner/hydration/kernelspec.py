"""The only reader of kernelspecs: what a kernel.json declares for its provisioner, including its faults."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager

from provisioner.core.errors import ConfigError
from provisioner.hydration.step import Launch
from provisioner.settings.log import log
from provisioner.settings.options import KernelOptions

PROVISIONER = "volume-provisioner"
"""The name by which a kernel.json chooses the provisioner that gives volumes; an entry point."""

DEFAULT_LAUNCHER: str = KernelOptions.launcher.default_value

PACKAGED = "python3-volume"
"""The kernelspec that is installed with this package."""


@dataclass(frozen=True)
class Stanza:
    """`metadata.kernel_provisioner` of a kernel.json: the name of a provisioner and its options."""

    provisioner: str
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def gives_volume(self) -> bool:
        """Whether the kernels of this kernelspec get a volume."""
        return self.provisioner == PROVISIONER

    @property
    def launcher(self) -> object:
        """The provisioner that really starts the kernel; unchecked, so of any JSON type."""
        if not self.gives_volume:
            return self.provisioner
        return self.config.get("launcher", DEFAULT_LAUNCHER)

    def metadata(self) -> dict[str, Any]:
        """Return the stanza as kernel.json has it."""
        return {"provisioner_name": self.provisioner, "config": dict(self.config)}


@dataclass(frozen=True)
class Kernelspec:
    """One kernelspec that Jupyter finds."""

    name: str
    """Its name, in lower case as jupyter_client has it."""
    directory: Path
    content: Mapping[str, Any]
    """The content of its kernel.json; empty if that cannot be read."""

    @property
    def display_name(self) -> str:
        """The name that JupyterLab's launcher shows."""
        return str(self.content.get("display_name", ""))

    @property
    def language(self) -> str:
        """The language of its kernel, in lower case."""
        return str(self.content.get("language", "")).lower()

    @property
    def command(self) -> tuple[str, ...]:
        """The command line that starts its kernel; empty if kernel.json has none."""
        argv = self.content.get("argv")
        if not isinstance(argv, list) or not argv:
            return ()
        program, *arguments = map(str, argv)
        # As in `KernelManager.format_kernel_cmd`, a bare `python` is this interpreter.
        major, minor = sys.version_info[:2]
        if program in {"python", f"python{major}", f"python{major}.{minor}"}:
            program = sys.executable
        return (program, *arguments)

    @property
    def metadata(self) -> dict[str, Any]:
        """Its metadata; empty if that is no object."""
        metadata = self.content.get("metadata")
        return metadata if isinstance(metadata, dict) else {}

    @property
    def stanza(self) -> Stanza:
        """The provisioner that it names; if it names none, Jupyter's default."""
        found = self.metadata.get("kernel_provisioner")
        if not isinstance(found, dict) or "provisioner_name" not in found:
            # Imported here: a kernel start has the stanza already, and would pay for the import.
            from jupyter_client.provisioning.factory import KernelProvisionerFactory

            return Stanza(KernelProvisionerFactory.instance().default_provisioner_name)
        config = found.get("config")
        return Stanza(str(found["provisioner_name"]), config if isinstance(config, dict) else {})

    @property
    def misfit(self) -> str | None:
        """Why its kernels get no volumes although it names our provisioner, with the cure; None if they do.

        Jupyter ignores a stanza that is no object. If the options are no object, jupyter_client (8.10) fails with
        a TypeError before it calls the provisioner, so that only a check of kernel.json can explain it.
        """
        stanza, part = self.metadata.get("kernel_provisioner"), "kernel_provisioner"
        effect = "get no volume"
        if isinstance(stanza, dict) and self.stanza.gives_volume:
            stanza, part = stanza.get("config", {}), "kernel_provisioner.config"
            effect = "do not start"
        elif stanza != PROVISIONER:
            return None
        if isinstance(stanza, dict):
            return None
        return (
            f"The kernels of kernelspec {self.name!r} {effect}, because metadata.{part} is no object; write "
            f'"kernel_provisioner": {{"provisioner_name": "{PROVISIONER}", "config": {{}}}}, with any options in '
            f'"config", in {self.directory / "kernel.json"}.'
        )

    @property
    def is_packaged(self) -> bool:
        """Whether this package installed it, and not the user."""
        return self.directory == Path(sys.prefix, "share", "jupyter", "kernels", PACKAGED)


def kernelspecs() -> Iterator[Kernelspec]:
    """Yield the kernelspecs that Jupyter finds, by name."""
    manager = KernelSpecManager()
    for name, directory in sorted(manager.find_kernel_specs().items()):
        yield Kernelspec(name, Path(directory), _content(manager, name, Path(directory)))


def kernelspec(name: str) -> Kernelspec:
    """Return the kernelspec of that name; raise `ConfigError` if there is none."""
    installed = {found.name: found for found in kernelspecs()}
    if name.lower() not in installed:
        raise ConfigError(f"There is no kernelspec {name!r}; use one of {', '.join(installed)}.")
    return installed[name.lower()]


def declared(name: str, env: Mapping[str, str]) -> tuple[KernelOptions, Launch]:
    """Return the options of a kernelspec and the launch of its kernels, when no kernel is being started.

    For `jupyter volumes shell` and `hydrate`, and for spares. A kernelspec that is no longer installed gets the
    default options and this interpreter.

    Raises
    ------
    ConfigError
        An option is unknown or has a wrong value.
    """
    try:
        found = kernelspec(name)
    except ConfigError:
        if name:
            log.warning("The kernelspec %r is not installed; the default is used.", name)
        return KernelOptions(), Launch((sys.executable,), dict(env))
    if not found.command:
        raise ConfigError(
            f"kernel.json of {name!r} cannot be read or has no argv; "
            f"correct {found.directory / 'kernel.json'}."
        )
    if found.misfit is not None:
        raise ConfigError(found.misfit)
    options, added = KernelOptions(), found.content.get("env")
    if found.stanza.gives_volume:
        options.take(found.stanza.config, found.name)
    pairs = added.items() if isinstance(added, dict) else ()
    expanded = {name: Template(str(value)).safe_substitute(env) for name, value in pairs}
    return options, Launch(found.command, {**env, **expanded})


def volume_kernelspec(name: str, flag: str = "") -> Kernelspec:
    """Return the kernelspec that the user named, after `flag` on a command line; refuse one that gives no volumes.

    Raises
    ------
    ConfigError
        There is none, its kernels cannot start, or they get no volumes; the message names a kernelspec that gives them.
    """
    found = kernelspec(name)
    if not found.content:
        path = found.directory / "kernel.json"
        raise ConfigError(f"kernel.json of {name!r} cannot be read; correct or remove {path}.")
    if found.misfit is not None:
        raise ConfigError(found.misfit)
    if not found.stanza.gives_volume:
        raise ConfigError(f"The kernelspec {name!r} gives no volume; {way_to_volume(found, flag)}.")
    return found


def way_to_volume(source: Kernelspec, flag: str = "") -> str:
    """Return a clause that names a kernelspec of the same kernel with volumes, or the command that makes one."""
    usual = f"{source.name}-volume"
    giving = [found for found in kernelspecs() if found.stanza.gives_volume]
    same = [found.name for found in giving if source.command and found.command == source.command]
    if usual in {found.name for found in giving}:
        same.insert(0, usual)
    if same:
        return f"`{flag}{same[0]}` starts the same kernel in one"
    return f"`jupyter volumes kernelspec add {usual} --from {source.name}` makes one that does"


def _content(manager: KernelSpecManager, name: str, directory: Path) -> dict[str, Any]:
    path = directory / "kernel.json"
    if not path.exists():
        # ipykernel's own kernelspec exists without a file; only the manager knows it.
        return dict(manager.get_kernel_spec(name).to_dict())
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
