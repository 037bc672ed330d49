"""Where the server extension does blocking work: threads of its own.

asyncio's default executor has four threads more than the machine has cores. Hydrations last minutes and take one each;
a few of them would keep every list and every release waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_THREADS = 8


class Workers:
    """A few threads for short blocking work: reading the table, looking at leases."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="volumes")

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread and return its result."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def stop(self) -> None:
        """Take no more work; what has begun is short and ends by itself."""
        self._executor.shutdown(wait=False, cancel_futures=True)
