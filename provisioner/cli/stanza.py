"""What kernel.json says of its provisioner: `metadata.kernel_provisioner`, and what may be wrong with it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from ..environment import PROVISIONER
from ..errors import ConfigError
from ..hydration.plan import plan
from ..options import KernelOptions

DEFAULT_LAUNCHER = "local-provisioner"

_GROUP = "jupyter_client.kernel_provisioners"


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


def faults(stanza: Stanza, kernelspec: str, root: Path) -> Iterator[str]:
    """Yield what is wrong with the options of a kernelspec that gives volumes, each with its cure.

    Parameters
    ----------
    stanza
        What the kernelspec says, or shall say.
    kernelspec
        Its name, for messages.
    root
        Where volumes lie.
    """
    launcher = stanza.launcher
    if launcher == PROVISIONER:
        yield (
            f"The launcher of kernelspec {kernelspec!r} is {PROVISIONER!r} itself; "
            'name the provisioner that starts the process, such as "local-provisioner".'
        )
    elif isinstance(launcher, str) and launcher not in launchers():
        yield (
            f"The launcher {launcher!r} of kernelspec {kernelspec!r} is not installed; "
            f"install its package or use one of {', '.join(sorted(launchers()))}."
        )
    options = KernelOptions()
    try:
        options.take(stanza.config, kernelspec)
        plan(options.hydration(root))
    except ConfigError as error:
        yield str(error)
