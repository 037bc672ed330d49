"""Kernels whose start is under way when the server stops, and starts that have failed.

Without pending kernels jupyter_server cannot end a start: it looks for the kernel among those that run, finds none,
raises, and never exits (jupyter_server 2.21). Its own extension hook comes just before, so it is done there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


async def end_starts(manager: Any, is_ours: Callable[[str], bool], within: float) -> None:
    """End the starts of kernels with volumes, and forget all those that have failed; takes up to `within` seconds.

    Parameters
    ----------
    manager
        The server's kernel manager.
    is_ours
        Whether a kernel has a volume: the start of another might leave something behind if it were broken off.
    within
        Seconds to wait until they have given back what they took.
    """
    starting = {
        kernel_id: task
        for kernel_id, task in list(manager._pending_kernels.items())  # noqa: SLF001 - there is no public way
        if kernel_id not in manager
    }
    ending = [task for kernel_id, task in starting.items() if is_ours(kernel_id)]
    for task in ending:
        task.cancel()
    if ending:
        await asyncio.wait(ending, timeout=within)
    for kernel_id, task in starting.items():
        if task.done():
            manager._pending_kernels.pop(kernel_id, None)  # noqa: SLF001 - as above
