"""What kernel.json says of its provisioner: `metadata.kernel_provisioner`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ..environment import PROVISIONER

DEFAULT_LAUNCHER = "local-provisioner"

PROVISIONERS = "jupyter_client.kernel_provisioners"
"""The group of entry points in which Jupyter looks for provisioners."""


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


def entry_point() -> EntryPoint | None:
    """Return our own entry point as Jupyter sees it; None if it does not."""
    return next(iter(entry_points(group=PROVISIONERS, name=PROVISIONER)), None)
