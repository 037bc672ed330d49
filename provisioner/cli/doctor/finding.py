"""What a check found: how bad it is, what it is about, and its cure."""

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
    errno.ENFILE: "end the processes that have too many files open",
}
_OTHER_CURE = "check the system's log (`dmesg`) for a failing disk"


class Level(Enum):
    """How bad a finding is."""

    OK = "ok"
    INFO = "info"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True)
class Finding:
    """What was found of a subject, and what the user can do.

    The cure is empty where nothing needs to be done, or `message` contains it. `repair` carries the cure out where
    that is safe: it deletes no user's file and disturbs no holder of a volume.
    """

    level: Level
    subject: str
    message: str
    cure: str = ""
    repair: Callable[[], object] | None = None

    def __str__(self) -> str:
        """Return the finding as one line."""
        cure = f"; {self.cure}" if self.cure else ""
        return f"{self.level.value:<4}  {self.subject}: {self.message}{cure}"


def findings_of(
    subject: str, path: Path | None, check: Callable[..., Iterable[Finding]], *given: object
) -> Iterator[Finding]:
    """Yield the findings of a check; an error that ends the check is a finding too, and ends no other check.

    `path` is where the subject is, for errors that name no path.
    """
    try:
        yield from check(*given)
    except VolumeError as error:
        yield Finding(Level.BAD, subject, str(error))
    except OSError as error:
        where = error.filename or path
        reason = f"{error.strerror or error}: {where}" if where else str(error.strerror or error)
        cure = _CURES.get(error.errno or 0, _OTHER_CURE)
        yield Finding(Level.BAD, subject, f"cannot be checked ({reason})", cure)
