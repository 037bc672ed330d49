"""Starts that failed: said so to whoever asks for the kernel, and not only to whoever opens its channels.

jupyter_server shows a pending kernel as "starting" until its websocket is opened (jupyter_server 2.21); a client that
polls over REST would wait for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ..event import Event, Kind
from ..pool import Pool

_SETTLED_SECONDS = 0.5
"""Until then jupyter_server itself may still write that the kernel is starting."""


class FailedStarts:
    """Marks kernels whose volume was refused or could not be made ready as dead, with the reason.

    Parameters
    ----------
    pool
        The pool, whose events tell.
    manager
        The server's kernel manager.
    loop
        The server's event loop.
    """

    def __init__(self, pool: Pool, manager: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._manager = manager
        self._loop = loop
        self._unsubscribe = pool.events.subscribe(self._on_event)

    def close(self) -> None:
        """Listen no more."""
        self._unsubscribe()

    def _on_event(self, event: Event) -> None:
        """Called in the thread in which it happens."""
        if event.kernel and event.kind in {Kind.REFUSED, Kind.FAILED}:
            reason = str(event.details.get("message", ""))
            self._loop.call_soon_threadsafe(
                self._loop.call_later, _SETTLED_SECONDS, self._mark, event.kernel, reason
            )

    def _mark(self, kernel_id: str, reason: str) -> None:
        if kernel_id not in self._manager:
            return
        kernel = self._manager.get_kernel(kernel_id)
        if getattr(kernel, "execution_state", None) == "starting":
            kernel.execution_state = "dead"
            kernel.reason = reason
