"""Blocking work on behalf of an event loop: it runs in a thread of its own and can be cancelled."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

LOOK_SECONDS = 0.2
"""How often a coroutine that waits for a thread calls its `look`."""


class Work(Generic[T]):
    """A piece of blocking work, which starts when this object is made, or when the work `after` is over.

    It does not run in the loop's executor. A few long hydrations would fill that, and everything else that a server
    does in threads would wait. And in a process forked from one that used it (papermill or nbclient under
    multiprocessing), the inherited executor has no threads: what is submitted to it never runs.

    The work is to end soon after the event that it is given is set. Pieces that follow one another need no lock.
    """

    def __init__(self, do: Callable[[threading.Event], T], after: Work[Any] | None = None) -> None:
        self._cancel = threading.Event()
        self._result: concurrent.futures.Future[T] = concurrent.futures.Future()
        # Apart from the result: asyncio logs an exception that no caller retrieves, and a caller that was cancelled
        # retrieves nothing.
        self._over: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._over.set_running_or_notify_cancel()  # or a wait that is cancelled would cancel it
        threading.Thread(target=self._run, args=(do, after), name="volume", daemon=True).start()

    def cancel(self) -> None:
        """Set the event that ends the work."""
        self._cancel.set()

    @property
    def is_over(self) -> bool:
        """Whether the work has ended, with a result or an error."""
        return self._over.done()

    async def over(self, look: Callable[[], object] = lambda: None) -> None:
        """Wait until the work has ended; does not raise the work's error, and ends no work if it is cancelled.

        `look` is called a few times a second meanwhile; what it raises ends the waiting.
        """
        over = asyncio.wrap_future(self._over)
        try:
            # With a timeout even where `look` does nothing: a forked process shares the pipe that wakes an inherited
            # loop, so the byte that should wake this loop may go to the parent's.
            while not over.done():
                await asyncio.wait({over}, timeout=LOOK_SECONDS)
                look()
        finally:
            over.cancel()

    def join(self) -> None:
        """Block until the work has ended."""
        self._over.result()

    def result(self) -> T:
        """Return the work's result or raise its error; blocks until it has ended."""
        return self._result.result()

    def _run(self, do: Callable[[threading.Event], T], after: Work[Any] | None) -> None:
        if after is not None:
            after.join()
        try:
            self._result.set_result(do(self._cancel))
        except BaseException as error:  # noqa: BLE001 - `result` raises it
            self._result.set_exception(error)
        finally:
            self._over.set_result(None)
