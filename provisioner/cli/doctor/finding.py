"""What an examination found: how bad it is, what it is about, and what cures it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from provisioner.core.errors import VolumeError

_CURES = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some space there, or have the quota raised",
    errno.EACCES: "make it readable and writable for you",
    errno.EPERM: "make it readable and writable for you",
    errno.EROFS: "have that file system mounted for writing",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENFILE: "end what has too many files open",
}
_OTHER_CURE = "see in the system's log (`dmesg`) whether the disk fails"


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


def examined(
    subject: str, where: Path | None, check: Callable[[], Iterable[Finding]]
) -> Iterator[Finding]:
    """Yield what a check finds; what stops it is a finding too, and stops no other check.

    Parameters
    ----------
    subject
        What is examined.
    where
        Where that lies, for an error that names no path.
    check
        Yields the findings.
    """
    try:
        yield from check()
    except VolumeError as error:
        yield Finding(Level.BAD, subject, str(error))
    except OSError as error:
        place = error.filename or where
        told = f"{error.strerror or error}: {place}" if place else str(error.strerror or error)
        cure = _CURES.get(error.errno or 0, _OTHER_CURE)
        yield Finding(Level.BAD, subject, f"cannot be examined ({told})", cure)
