"""Starts that failed: said so to whoever asks for the kernel, and not only to whoever opens its channels.

jupyter_server shows a pending kernel as "starting" until its websocket is opened (jupyter_server 2.21); a client that
polls over REST would wait for ever. This holds for kernels without a volume as well: the extension makes them pending.
"""

from __future__ import annotations

import asyncio
from typing import Any

KERNEL_SCHEMA = "https://events.jupyter.org/jupyter_server/kernel_actions/v1"

_SETTLED_SECONDS = 0.5
"""Until then jupyter_server itself may still write that the kernel is starting."""


class FailedStarts:
    """Marks kernels whose start has failed as dead, with the reason.

    Parameters
    ----------
    manager
        The server's kernel manager.
    """

    def __init__(self, manager: Any) -> None:
        self._manager = manager

    async def on_kernel_event(self, logger: Any, schema_id: str, data: dict[str, Any]) -> None:
        """Called by the server's event logger with what was done to a kernel."""
        if (data.get("action"), data.get("status")) == ("start", "error"):
            await asyncio.sleep(_SETTLED_SECONDS)
            self._mark(data.get("kernel_id", ""), data.get("msg", ""))

    def _mark(self, kernel_id: str, reason: str) -> None:
        if kernel_id not in self._manager:
            return
        kernel = self._manager.get_kernel(kernel_id)
        if getattr(kernel, "execution_state", None) == "starting":
            kernel.execution_state = "dead"
            kernel.reason = reason
