"""The threads of a server: one for each kind of work in the background, a few for short blocking work."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

from provisioner.system.work import Work

T = TypeVar("T")

_MOST_WORKERS = 8


class Background(ABC):
    """One thread that runs as long as the server.

    It is a daemon: its work may be killed at any line, and work that hangs does not keep the server alive.
    """

    def __init__(self, name: str) -> None:
        self._cancel = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, within: float) -> bool:
        """Cancel the work; return whether it ended within so many seconds.

        Blocks: call it in a thread. Harmless if the thread was never started.
        """
        self._cancel.set()
        if self._thread.ident is not None:
            self._thread.join(within)
        return not self._thread.is_alive()

    @abstractmethod
    def _run(self) -> None:
        """Called in the thread; checks `_cancel` before each step and returns soon after it was set."""


class Workers:
    """A few threads at a time for short blocking work, such as reading the table or looking at leases.

    Not asyncio's default executor: it has four threads more than the machine has cores, and each hydration takes one
    for minutes, so that lists and releases would wait. And the interpreter waits at its exit for the threads of any
    executor, so that a disk that does not answer would keep the server alive.
    """

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(_MOST_WORKERS)

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread and return its result."""
        async with self._free:
            begun = Work(lambda cancel: work())
            await begun.over()
        return begun.result()
