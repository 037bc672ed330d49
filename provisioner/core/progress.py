"""Progress reports: the functions that a worker calls as its work goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Progress = Callable[[int, "int | None"], None]
"""Called with the bytes done and the bytes in all (None if unknown), at most a few times a second."""


def no_progress(done: int, total: int | None) -> None:
    """Ignore progress."""


class StepProgress(Protocol):
    """Called in the worker thread with what a hydration step does; must return at once and not raise."""

    def __call__(self, step: str, message: str, fraction: float | None = None) -> None:
        """Report one line; `fraction` (0 to 1) if the step knows how much is done."""
        ...
