"""Forks of the test process: each does a piece of work, reports the outcome, and is always ended."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from types import TracebackType

_SECONDS = 60


class Child:
    """A fork of this process that does `work` and reports what it returned or raised.

    Parameters
    ----------
    work
        Called in the child, which has none of the parent's other threads.
    stays
        Whether the child lives on after its report, until the `with` block ends.
    """

    def __init__(self, work: Callable[[], object], stays: bool = False) -> None:
        self._reports, report = os.pipe()
        stay, self._end = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                signal.alarm(2 * _SECONDS)
                os.close(self._end)
                os.write(report, _outcome(work).encode())
                os.close(report)
                if stays:
                    os.read(stay, 1)
            finally:
                os._exit(0)
        os.close(report)
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
        os.close(self._reports)
        os.close(self._end)

    def said(self) -> str:
        """Return what the work returned, or the error it raised; fail if the child reports nothing."""
        parts: list[bytes] = []
        while True:
            ready, _, _ = select.select([self._reports], [], [], _SECONDS)
            assert ready, "the child is stuck"
            part = os.read(self._reports, 65536)
            if not part:
                return b"".join(parts).decode()
            parts.append(part)


def _outcome(work: Callable[[], object]) -> str:
    try:
        return str(work())
    except Exception as error:  # noqa: BLE001 - reported to the parent, which knows what it expects
        return f"{type(error).__name__}: {error}"
