"""Where the server extension does blocking work: threads of its own.

asyncio's default executor has four threads more than the machine has cores. Hydrations last minutes and take one each;
a few of them would keep every list and every release waiting. And whatever executor it is, the interpreter waits at its
exit for all that runs in one: a disk that does not answer would keep the server alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from provisioner.system.work import Work

T = TypeVar("T")

_AT_ONCE = 8


class Workers:
    """A few threads at a time for short blocking work: reading the table, looking at leases."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread and return its result."""
        async with self._places:
            begun = Work(lambda cancel: work())
            await begun.over()
        return begun.result()
