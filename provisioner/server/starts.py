"""Kernels whose start or restart is under way when the server stops, and starts that have failed.

Without pending kernels jupyter_server cannot end a start: it looks for the kernel among those that run, finds none,
raises, and never exits (jupyter_server 2.21). Nor can it, in either mode, end a kernel in the midst of a restart: it
asks how that has ended, and raises. Its own extension hook comes just before, so it is done there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

_LOOK_SECONDS = 0.05


async def end_starts(manager: Any, is_ours: Callable[[str], bool], within: float) -> None:
    """End the starts of kernels with volumes, and forget all those that have failed; takes up to `within` seconds.

    Of kernels that restart, the restart is over when their shutdown is: that waits for the volume to be given back.

    Parameters
    ----------
    manager
        The server's kernel manager.
    is_ours
        Whether a kernel has a volume: the start of another might leave something behind if it were broken off.
    within
        Seconds to wait until they have given back what they took, and other starts have ended by themselves.
    """
    for kernel_id in set(manager.list_kernel_ids()) - set(manager._pending_kernels):  # noqa: SLF001 - there is no public way
        ready = manager.get_kernel(kernel_id).ready
        if not ready.done() and is_ours(kernel_id):
            ready.cancel()
    clock = asyncio.get_running_loop().time
    deadline = clock() + within
    ended: set[str] = set()
    while True:
        starting = {
            kernel_id: task
            for kernel_id, task in list(manager._pending_kernels.items())  # noqa: SLF001 - as above
            if kernel_id not in manager
        }
        # Looked for anew: that a kernel has a volume is known a moment after its start has begun.
        for kernel_id in set(starting) - ended:
            if is_ours(kernel_id):
                ended.add(kernel_id)
                starting[kernel_id].cancel()
        for kernel_id, task in starting.items():
            if task.done():
                manager._pending_kernels.pop(kernel_id, None)  # noqa: SLF001 - as above
        pending = [task for task in starting.values() if not task.done()]
        if not pending or clock() >= deadline:
            return
        await asyncio.wait(pending, timeout=min(_LOOK_SECONDS, max(deadline - clock(), 0)))
