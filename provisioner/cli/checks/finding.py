"""What an examination found: how bad it is, what it is about, and what cures it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    """How bad a finding is."""

    OK = "ok"
    INFO = "info"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True)
class Finding:
    """One finding.

    Parameters
    ----------
    level
        How bad it is.
    subject
        What was examined.
    said
        What was found.
    cure
        What to do; empty where there is nothing to do, or `said` tells it.
    repair
        Does it, where that is safe: it deletes no file of a user's, and whoever is using a volume goes on.
    """

    level: Level
    subject: str
    said: str
    cure: str = ""
    repair: Callable[[], object] | None = None

    def __str__(self) -> str:
        """Return the finding as one line."""
        cure = f"; {self.cure}" if self.cure else ""
        return f"{self.level.value:<4}  {self.subject}: {self.said}{cure}"
