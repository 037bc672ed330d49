"""The face towards jupyter_client: the provisioner that gives a kernel its volume.

May import: every room but the other faces.
"""

from __future__ import annotations

from provisioner.kernel.provisioner import VolumeProvisioner

__all__ = ["VolumeProvisioner"]
