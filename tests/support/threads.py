"""Threads that a test holds at a point in their work."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

Pause = Callable[[], None]


class Held:
    """Another thread that does `work` and stops where it calls `pause`, until `let_go`.

    Parameters
    ----------
    work
        Called with `pause`; its result, or the error that it raises, is kept.
    """

    def __init__(self, work: Callable[[Pause], object]) -> None:
        self.has_ended = False
        self.result: object = None
        self.error: BaseException | None = None
        self._began, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(work,))

    def __enter__(self) -> Held:
        self._thread.start()
        assert self._began.wait(60), f"the work never called pause: {self.error!r}"
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()

    def let_go(self) -> None:
        """Let the work go on, and wait until it has ended."""
        self._over.set()
        self._thread.join()

    def _run(self, work: Callable[[Pause], object]) -> None:
        try:
            self.result = work(self._pause)
        except BaseException as error:  # noqa: BLE001 - the test examines it
            self.error = error
        self.has_ended = True

    def _pause(self) -> None:
        self._began.set()
        # Bounded, so that code that wrongly waits for this thread fails instead of hanging.
        self._over.wait(20)


def at_once(works: list[Callable[[], object]]) -> None:
    """Do each work in a thread of its own; wait until all have ended, and raise the first error."""
    with ThreadPoolExecutor(len(works)) as threads:
        for begun in [threads.submit(work) for work in works]:
            begun.result()
