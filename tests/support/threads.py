"""Threads that tests stop in the midst of something."""

from __future__ import annotations

import threading
from collections.abc import Callable

Pause = Callable[[], None]


class Held:
    """Another thread that has begun with `work` and stands still in its midst until it is let go.

    Parameters
    ----------
    work
        Called with what stands still; what it returns, or raises, is kept.
    """

    def __init__(self, work: Callable[[Pause], object]) -> None:
        self.has_ended = False
        self.result: object = None
        self.error: BaseException | None = None
        self._began, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(work,))

    def __enter__(self) -> Held:
        self._thread.start()
        assert self._began.wait(60), f"it never got there: {self.error!r}"
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()

    def let_go(self) -> None:
        """Let it come to its end."""
        self._over.set()
        self._thread.join()

    def _run(self, work: Callable[[Pause], object]) -> None:
        try:
            self.result = work(self._pause)
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            self.error = error
        self.has_ended = True

    def _pause(self) -> None:
        self._began.set()
        # Not for ever: whoever wrongly waits for this thread is to fail, not to hang.
        self._over.wait(20)
