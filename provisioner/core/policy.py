"""Decides what a volume needs next. Pure: a record and the time in, an action out.

Level-triggered: each decision is made from the present record and never from what was done last, so interrupted work is
decided upon again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from provisioner.core.record import BackupRecord, Record, State


@dataclass(frozen=True)
class Keep:
    """Which older backups stay: the newest `count`, and those younger than `age`.

    A backup is deleted only when it is beyond both; with both None, none ever is.
    """

    count: int | None
    age: timedelta | None


@dataclass(frozen=True)
class Policy:
    """When culling, backup and pruning are due for volumes of one kernelspec, and the destination; None means never."""

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


@dataclass(frozen=True)
class Due:
    """When a stopped volume's next backup and its pruning are due; None if never, or not in its present state."""

    backup: datetime | None
    prune: datetime | None


def due(record: Record, policy: Policy) -> Due:
    """Return when a volume is backed up and pruned next, if no kernel uses it before.

    Pruning is due `prune_after` after the stop, and needs a backup of the present generation. If there is none, a
    backup is due first, at that time at the latest, even if `backup_after` is never.
    """
    if record.state is not State.STOPPED or record.stopped is None or record.spare:
        return Due(None, None)
    prune_after = None if record.pinned else policy.prune_after
    prune = None if prune_after is None else record.stopped + prune_after
    if record.is_backed_up:
        return Due(None, prune)
    delays = [delay for delay in (policy.backup_after, prune_after) if delay is not None]
    if not delays:
        return Due(None, None)
    backup = max(record.stopped + min(delays), record.retry or record.stopped)
    return Due(backup, None if prune is None else max(prune, backup))


def next_action(record: Record, policy: Policy, now: datetime) -> Action | None:
    """Return the action that is due for a volume now, if any."""
    when = due(record, policy)
    if when.backup is not None and when.backup <= now:
        return Action.BACK_UP
    if record.is_backed_up and when.prune is not None and when.prune <= now:
        return Action.PRUNE
    return None


def retry_at(now: datetime, failures: int) -> datetime:
    """Return when to retry a backup that has failed `failures` times before: after 1 minute, doubling up to a day."""
    return now + min(timedelta(minutes=1 << min(failures, 11)), timedelta(days=1))


def eviction_order(records: Iterable[Record]) -> list[Record]:
    """Return the volumes that may be evicted: spares, backed up ones, others; of each, the longest stopped first."""
    candidates = [r for r in records if r.state is State.STOPPED and not r.pinned]
    return sorted(
        (r for r in candidates if r.generation or r.spare),
        key=lambda r: (not r.spare, not r.is_backed_up, r.stopped or r.created),
    )


def superfluous(backups: Sequence[BackupRecord], keep: Keep, now: datetime) -> list[BackupRecord]:
    """Return those of all backups of one volume, newest first, that may be deleted.

    The newest complete, verified backup always stays. Of the partial backups made since, all but the newest may go.
    """
    if keep.count is None and keep.age is None:
        return []
    sound = partial = 0
    gone = []
    for backup in backups:
        if backup.partial and not sound:
            # The newest of those made since the last complete one has all that the others have.
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
