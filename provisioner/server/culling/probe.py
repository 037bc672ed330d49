"""Does a kernel that looks idle have work after all? Asked of the kernel itself.

The server sees a kernel's state only in what it publishes. Requests that wait in its queue publish nothing, and a
subshell that falls idle makes the whole kernel look idle. A kernel answers on its shell channel in order, so one
that answers has nothing before it.
"""

from __future__ import annotations

import asyncio
from typing import Any


async def answers(kernel_manager: Any, within: float) -> bool:
    """Whether a kernel answers on its shell channel within so many seconds; does not count as activity."""
    answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_reply(message: Any) -> None:
        if not answered.done():
            answered.set_result(None)

    channel = kernel_manager.connect_shell()
    try:
        channel.on_recv(on_reply)
        kernel_manager.session.send(channel, "kernel_info_request")
        done, _ = await asyncio.wait({answered}, timeout=within)
        return bool(done)
    finally:
        channel.close(linger=0)
