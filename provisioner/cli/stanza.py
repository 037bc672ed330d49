"""What kernel.json says of its provisioner: `metadata.kernel_provisioner`, and what may be wrong with it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

PROVISIONER = "volume-provisioner"
"""The name under which kernel.json asks for a volume."""

DEFAULT_LAUNCHER = "local-provisioner"

_GROUP = "jupyter_client.kernel_provisioners"
_STEPS_GROUP = "provisioner.hydration_steps"
_BARE_PYTHON = re.compile(r"python(\d+(\.\d+)?)?")


@dataclass(frozen=True)
class Stanza:
    """The provisioner that a kernelspec names, and that provisioner's options."""

    provisioner: str
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def gives_volume(self) -> bool:
        """Whether the kernels of this kernelspec get a volume."""
        return self.provisioner == PROVISIONER

    @property
    def launcher(self) -> object:
        """The provisioner that really starts the kernel; of any type that JSON has, until it was checked."""
        if not self.gives_volume:
            return self.provisioner
        return self.config.get("launcher", DEFAULT_LAUNCHER)

    def metadata(self) -> dict[str, Any]:
        """Return the stanza as kernel.json has it."""
        return {"provisioner_name": self.provisioner, "config": dict(self.config)}


def stanza_of(metadata: Mapping[str, Any]) -> Stanza:
    """Return what the metadata of a kernelspec says; where it says nothing, the default that the server would take."""
    found = metadata.get("kernel_provisioner")
    if not isinstance(found, dict) or "provisioner_name" not in found:
        return Stanza(os.environ.get("JUPYTER_DEFAULT_PROVISIONER_NAME", DEFAULT_LAUNCHER))
    config = found.get("config")
    return Stanza(str(found["provisioner_name"]), config if isinstance(config, dict) else {})


def launchers() -> set[str]:
    """Return the names of the installed provisioners that can start a kernel for us."""
    return {point.name for point in entry_points(group=_GROUP)} - {PROVISIONER}


def entry_point() -> EntryPoint | None:
    """Return our own entry point as Jupyter sees it; None if it does not."""
    return next(iter(entry_points(group=_GROUP, name=PROVISIONER)), None)


def faults(stanza: Stanza) -> Iterator[str]:
    """Yield what is wrong with the options of a kernelspec that gives volumes, each with its cure."""
    launcher = stanza.launcher
    if launcher == PROVISIONER:
        yield f'the launcher is {PROVISIONER!r} itself; name one that starts a process, such as "local-provisioner"'
    elif isinstance(launcher, str) and launcher not in launchers():
        known = ", ".join(sorted(launchers()))
        yield f"the launcher {launcher!r} is not installed; install its package or use one of {known}"
    yield from _faulty_options(stanza.config)


def is_bare_python(program: str) -> bool:
    """Whether jupyter_client runs its own interpreter in place of `program` (`python`, `python3`, `python3.12`)."""
    return _BARE_PYTHON.fullmatch(program) is not None


def _faulty_options(config: Mapping[str, Any]) -> Iterator[str]:
    from jupyter_client.kernelspec import KernelSpec
    from traitlets import TraitError

    point = entry_point()
    if point is None:
        return
    # Taken from the entry point, as jupyter_client does: the faces of this package do not import one another.
    provisioner = point.load()(kernel_id="", kernel_spec=KernelSpec())
    traits = provisioner.traits(config=True)
    for name, value in config.items():
        if name in traits:
            try:
                provisioner.set_trait(name, value)
            except TraitError:
                yield f"the option {name} is {value!r}; it must be {traits[name].info()}"
        elif not entry_points(group=_STEPS_GROUP, name=name):
            yield f"{name} is not an option; use one of {', '.join(sorted(traits))}"
