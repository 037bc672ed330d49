"""The server extension, with which a Jupyter server looks after its volumes.

It culls idle kernels after a warning, sweeps the root, serves `/api/volumes` and the page `/volumes`, emits events
and metrics, and tells each kernel its notebook. May import: every room but the other faces.
"""

from __future__ import annotations

from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """Called by jupyter_server to find the extension of the package `provisioner.server`."""
    # Here, so that importing the package stays cheap.
    from provisioner.server.extension import VolumesExtension

    return [{"module": "provisioner.server.extension", "app": VolumesExtension}]
