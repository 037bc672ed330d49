"""What does a volume need next? Pure: a record and the time in, an action out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Keep:
    """Which older backups stay: those among the newest `count`, and those younger than `age`.

    None stands for "all of them" where both are None; a backup goes only when it is beyond both.
    """

    count: int | None
    age: timedelta | None


@dataclass(frozen=True)
class Policy:
    """What is due when for the volumes of one kernelspec; None means never."""

    idle_shutdown: timedelta | None
    backup_after: timedelta | None
    prune_after: timedelta | None
    keep: Keep
    exclude: Sequence[str] = ()
