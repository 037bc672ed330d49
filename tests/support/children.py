"""Forks of the tests' own process: each does a piece of work, tells the outcome, and ends for sure."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from types import TracebackType

_SECONDS = 60


class Child:
    """A fork of this process that does `work` and tells what it returned, or what it raised.

    Parameters
    ----------
    work
        Done in the child; without any of the parent's threads.
    stays
        Whether the child lives on, having told, until the block ends in which it was made.
    """

    def __init__(self, work: Callable[[], object], stays: bool = False) -> None:
        self._told, told = os.pipe()
        stay, self._end = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                signal.alarm(2 * _SECONDS)
                os.close(self._end)
                os.write(told, _outcome(work).encode())
                os.close(told)
                if stays:
                    os.read(stay, 1)
            finally:
                os._exit(0)
        os.close(told)
        os.close(stay)

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._told)
        os.close(self._end)

    def said(self) -> str:
        """Return what the work returned, or the refusal; fail if it is stuck."""
        parts: list[bytes] = []
        while True:
            ready, _, _ = select.select([self._told], [], [], _SECONDS)
            assert ready, "the child is stuck"
            part = os.read(self._told, 65536)
            if not part:
                return b"".join(parts).decode()
            parts.append(part)


def _outcome(work: Callable[[], object]) -> str:
    try:
        return str(work())
    except Exception as error:  # noqa: BLE001 - told to the parent, which knows what it expects
        return f"{type(error).__name__}: {error}"
