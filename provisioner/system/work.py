"""Blocking work on behalf of an event loop: in a thread of its own, which can be told to end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

LOOK_SECONDS = 0.2
"""How often whoever waits for a thread looks around."""


class Work(Generic[T]):
    """A piece of blocking work, begun when this is made.

    Not in the loop's executor: a few long hydrations would fill it, and all that a server does in threads would wait.
    And a process forked from one that used it (papermill or nbclient under multiprocessing) inherits the loop, and
    an executor whose threads were not forked: what is submitted to it never runs.

    Parameters
    ----------
    do
        The work. It ends soon after the event that it is given was set.
    after
        Earlier work, which has to be over first: pieces that follow one another so need no lock among them.
    """

    def __init__(self, do: Callable[[threading.Event], T], after: Work[Any] | None = None) -> None:
        self._cancel = threading.Event()
        self._result: concurrent.futures.Future[T] = concurrent.futures.Future()
        # Apart from the result: an exception that nobody came to fetch is logged by asyncio, and nobody comes to those
        # who cancelled.
        self._over: concurrent.futures.Future[None] = concurrent.futures.Future()
        for future in (self._result, self._over):
            future.set_running_or_notify_cancel()
        threading.Thread(target=self._run, args=(do, after), name="volume", daemon=True).start()

    def cancel(self) -> None:
        """Tell the work to end."""
        self._cancel.set()

    @property
    def is_over(self) -> bool:
        """Whether the thread has done its work, or failed."""
        return self._over.done()

    async def over(self, look: Callable[[], object] = lambda: None) -> None:
        """Wait until the thread has done its work, or failed; raises neither's error.

        Parameters
        ----------
        look
            Called a few times a second meanwhile.

        Raises
        ------
        asyncio.CancelledError
            The waiting was cancelled; the work goes on.
        """
        over = asyncio.wrap_future(self._over)
        try:
            # Looking from time to time also where nothing is looked for: a forked process shares the pipe that wakes
            # an inherited loop up, so what wakes it may go to its parent.
            while not over.done():
                await asyncio.wait({over}, timeout=LOOK_SECONDS)
                look()
        finally:
            over.cancel()

    def join(self) -> None:
        """Block until the thread has done its work, or failed."""
        self._over.result()

    def result(self) -> T:
        """Return what came of it, or raise what it failed with; blocks until it is over."""
        return self._result.result()

    def _run(self, do: Callable[[threading.Event], T], after: Work[Any] | None) -> None:
        if after is not None:
            after.join()
        try:
            self._result.set_result(do(self._cancel))
        except BaseException as error:  # noqa: BLE001 - handed to whoever asks for the result
            self._result.set_exception(error)
        finally:
            self._over.set_result(None)
