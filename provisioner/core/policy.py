"""What does a volume need next? Pure: a record and the time in, an action out.

Level-triggered: each look decides from what is, never from what was last done, so whatever was interrupted is
decided again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from provisioner.core.record import BackupRecord, Record, State


@dataclass(frozen=True)
class Keep:
    """Which older backups stay: those among the newest `count`, and those younger than `age`.

    A backup goes only when it is beyond both; with both None, none ever goes.
    """

    count: int | None
    age: timedelta | None


@dataclass(frozen=True)
class Policy:
    """What is due when for the volumes of one kernelspec, and where their backups go; None means never."""

    idle_shutdown: timedelta | None
    backup_after: timedelta | None
    prune_after: timedelta | None
    keep: Keep
    exclude: Sequence[str] = ()
    destination: str = ""


class Action(Enum):
    """What a sweep can do to a volume."""

    BACK_UP = "back up"
    PRUNE = "prune"
    EVICT = "evict"
    DROP_BACKUP = "drop backup"


@dataclass(frozen=True)
class Due:
    """When a stopped volume's next backup and its pruning are due; None: never, or not as things stand."""

    backup: datetime | None
    prune: datetime | None


def due(record: Record, policy: Policy) -> Due:
    """Return when a volume is backed up and pruned next, if nobody uses it before.

    Pruning is due `prune_after` after the stop, and needs a backup of the present generation: where that is missing
    the backup is due first, at that time at the latest, even if `backup_after` says never.
    """
    if record.state is not State.STOPPED or record.stopped is None or record.spare:
        return Due(None, None)
    prune = None if record.pinned else _after(record.stopped, policy.prune_after)
    if record.is_backed_up:
        return Due(None, prune)
    backup = _earliest(_after(record.stopped, policy.backup_after), prune)
    if backup is not None and record.retry is not None:
        backup = max(backup, record.retry)
    if backup is not None and prune is not None:
        prune = max(prune, backup)
    return Due(backup, prune)


def next_action(record: Record, policy: Policy, now: datetime) -> Action | None:
    """Return what is to be done to a volume now; None if nothing is due."""
    when = due(record, policy)
    if when.backup is not None and when.backup <= now:
        return Action.BACK_UP
    if record.is_backed_up and when.prune is not None and when.prune <= now:
        return Action.PRUNE
    return None


def retry_at(now: datetime, failures: int) -> datetime:
    """Return when a backup that has failed `failures` times before is tried again: 1 minute, doubling up to a day."""
    return now + min(timedelta(minutes=1 << min(failures, 11)), timedelta(days=1))


def eviction_order(records: Iterable[Record]) -> list[Record]:
    """Return the volumes that may make room: spares, those backed up, the others; the longest stopped first of each."""
    candidates = [r for r in records if r.state is State.STOPPED and not r.pinned]
    return sorted(
        (r for r in candidates if r.generation or r.spare),
        key=lambda r: (not r.spare, not r.is_backed_up, r.stopped or r.created),
    )


def superfluous(backups: Sequence[BackupRecord], keep: Keep, now: datetime) -> list[BackupRecord]:
    """Return the backups of one volume that may go.

    Only what is older than a whole, verified backup may go, so the newest of those always stays; and all but the
    newest of the partial ones made since.

    Parameters
    ----------
    backups
        All backups of the volume, newest first.
    keep
        Which older ones stay.
    now
        The time, for ages.
    """
    if keep.count is None and keep.age is None:
        return []
    sound = partial = 0
    gone = []
    for backup in backups:
        if backup.partial and not sound:
            # Of those made since the last whole one, the newest has all that the others have.
            partial += 1
            if partial > 1:
                gone.append(backup)
            continue
        beyond_count = sound >= (keep.count or 1)
        beyond_age = keep.age is None or now - backup.created > keep.age
        if sound and beyond_count and beyond_age:
            gone.append(backup)
        if backup.verified is not None and not backup.partial:
            sound += 1
    return gone


def _after(moment: datetime, delay: timedelta | None) -> datetime | None:
    return None if delay is None else moment + delay


def _earliest(*moments: datetime | None) -> datetime | None:
    return min((moment for moment in moments if moment is not None), default=None)
