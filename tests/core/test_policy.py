"""What is due for a volume, decided from values alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from provisioner.core.policy import (
    Action,
    Keep,
    Policy,
    due,
    eviction_order,
    next_action,
    retry_at,
    superfluous,
)
from provisioner.core.record import BackupRecord, Record, State

NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
POLICY = Policy(
    idle_shutdown=HOUR, backup_after=HOUR, prune_after=10 * DAY, keep=Keep(count=2, age=None)
)
STOPPED = Record("v1-a", "a", "py", State.STOPPED, 3, NOW - 100 * DAY, stopped=NOW)
BACKED_UP = replace(STOPPED, backed_up=3)


@pytest.mark.parametrize(
    ("record", "age", "expected"),
    [
        (STOPPED, HOUR - timedelta(seconds=1), None),
        (STOPPED, HOUR, Action.BACK_UP),
        (STOPPED, 20 * DAY, Action.BACK_UP),
        (BACKED_UP, 10 * DAY - timedelta(seconds=1), None),
        (BACKED_UP, 10 * DAY, Action.PRUNE),
        (replace(BACKED_UP, backed_up=2), 20 * DAY, Action.BACK_UP),
        (replace(BACKED_UP, pinned=True), 20 * DAY, None),
        (replace(STOPPED, pinned=True), HOUR, Action.BACK_UP),
        (replace(STOPPED, state=State.ACTIVE), 20 * DAY, None),
        (replace(BACKED_UP, state=State.PRUNED), 20 * DAY, None),
        (replace(STOPPED, retry=NOW + 2 * HOUR), HOUR, None),
        (replace(STOPPED, retry=NOW + 2 * HOUR), 2 * HOUR, Action.BACK_UP),
        (STOPPED, -DAY, None),
    ],
)
def test_the_next_action_follows_from_the_record_and_the_time(
    record: Record, age: timedelta, expected: Action | None
) -> None:
    assert next_action(record, POLICY, NOW + age) is expected


def test_a_volume_is_backed_up_before_it_is_pruned_even_if_backups_are_never_due() -> None:
    never = replace(POLICY, backup_after=None)
    assert due(STOPPED, never).backup == NOW + 10 * DAY
    assert next_action(STOPPED, never, NOW + 10 * DAY) is Action.BACK_UP


def test_never_means_never() -> None:
    never = replace(POLICY, backup_after=None, prune_after=None)
    assert next_action(STOPPED, never, NOW + 10_000 * DAY) is None
    assert next_action(BACKED_UP, never, NOW + 10_000 * DAY) is None


def test_pruning_is_due_no_earlier_than_the_backup_that_is_retried() -> None:
    failing = replace(STOPPED, retry=NOW + 12 * DAY)
    assert due(failing, POLICY).prune == NOW + 12 * DAY


def test_a_failed_backup_is_retried_at_growing_intervals_of_a_day_at_most() -> None:
    waits = [retry_at(NOW, failures) - NOW for failures in range(20)]
    assert waits[:3] == [timedelta(minutes=1), timedelta(minutes=2), timedelta(minutes=4)]
    assert waits[-1] == DAY
    assert waits == sorted(waits)


def test_backed_up_volumes_are_evicted_first_and_of_those_the_longest_stopped() -> None:
    old = replace(STOPPED, id="old", stopped=NOW - 9 * DAY)
    new = replace(BACKED_UP, id="new")
    newer = replace(BACKED_UP, id="newer", stopped=NOW + DAY)
    others = [
        replace(STOPPED, id="pinned", pinned=True),
        replace(STOPPED, id="active", state=State.ACTIVE),
        replace(STOPPED, id="pruned", state=State.PRUNED),
    ]
    assert [r.id for r in eviction_order([newer, *others, old, new])] == ["new", "newer", "old"]


def backup(days_old: float, *, partial: bool = False, verified: bool = True) -> BackupRecord:
    created = NOW - days_old * DAY
    return BackupRecord(
        f"b{days_old}", "d", "a", 1, created, 1, 1, 1, partial, created if verified else None
    )


@pytest.mark.parametrize(
    ("backups", "keep", "gone"),
    [
        ([backup(1), backup(2), backup(3)], Keep(2, None), ["b3"]),
        ([backup(1), backup(2), backup(3)], Keep(1, 2.5 * DAY), ["b3"]),
        ([backup(1), backup(2), backup(3)], Keep(None, None), []),
        ([backup(100)], Keep(1, DAY), []),
        ([backup(1, partial=True), backup(2), backup(3)], Keep(1, None), ["b3"]),
        ([backup(1, verified=False), backup(2)], Keep(1, None), []),
        ([backup(1), backup(2, partial=True)], Keep(1, None), ["b2"]),
        ([backup(1, partial=True), backup(2, partial=True)], Keep(1, None), ["b2"]),
    ],
)
def test_older_backups_are_deleted_only_after_a_newer_complete_one(
    backups: list[BackupRecord], keep: Keep, gone: list[str]
) -> None:
    assert [b.name for b in superfluous(backups, keep, NOW)] == gone
