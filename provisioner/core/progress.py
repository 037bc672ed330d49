"""How far a piece of work is: what the worker calls as it gets on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Progress = Callable[[int, "int | None"], None]
"""Called with the bytes done and the bytes in all (None: not known), a few times a second at most."""


def no_progress(done: int, total: int | None) -> None:
    """Report to nobody."""


class StepProgress(Protocol):
    """Called with what a hydration step is doing, from the worker thread; it must not raise and returns at once."""

    def __call__(self, step: str, message: str, fraction: float | None = None) -> None:
        """Report one line; `fraction` (0 to 1) where the step knows how far it is."""
        ...
