"""One pass of maintenance: carries out what policy decides.

A sweep may be killed at any line. It keeps nothing in mind between steps: what is due is read from the table, each
step is done under the volume's lease, and the next sweep looks anew.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from provisioner.core import policy
from provisioner.core.duration import format_duration
from provisioner.core.errors import Cancelled, VolumeError, VolumeHeld
from provisioner.core.policy import Action, Policy
from provisioner.core.record import Record
from provisioner.pool.pool import Pool
from provisioner.registry.rebuild import found_record
from provisioner.settings.log import log
from provisioner.system.locks import try_lock

_DEEP_EVERY = timedelta(hours=1)
"""How often a sweep compares the whole disk with the table; in between it looks only at what is due."""


@dataclass(frozen=True)
class Step:
    """One thing that a sweep did, or would do.

    Parameters
    ----------
    action
        What.
    session, volume
        To which volume.
    reason
        Why, in a few words.
    error
        What went wrong, in one line; None if nothing did.
    """

    action: Action
    session: str
    volume: str
    reason: str
    error: str | None = None


@dataclass(frozen=True)
class Report:
    """What one sweep did.

    Parameters
    ----------
    steps
        In the order in which they were done.
    repaired
        What killed processes had left unfinished and was put right, a line each.
    seconds
        How long the sweep took.
    skipped
        Whether another process was sweeping this root, so that nothing was done.
    """

    steps: tuple[Step, ...] = ()
    repaired: tuple[str, ...] = ()
    seconds: float = 0.0
    skipped: bool = False


def sweep(
    pool: Pool,
    *,
    cancel: threading.Event | None = None,
    dry_run: bool = False,
    deep: bool | None = None,
) -> Report:
    """Do what is due in a pool; blocks, so call it in a thread.

    Parameters
    ----------
    pool
        The pool.
    cancel
        Ends the sweep within a second; what it was at is done by the next one.
    dry_run
        Only tell what would be done.
    deep
        Whether to compare the whole disk with the table; None: if that has not been done for an hour.
    """
    began = time.monotonic()
    stop = cancel or threading.Event()
    if dry_run:
        return Report(tuple(planned(pool)), seconds=time.monotonic() - began)
    lock = try_lock(pool.layout.root / "sweep.lock")
    if lock is None:
        return Report(skipped=True, seconds=time.monotonic() - began)
    with lock:
        repaired = pool.finish_interrupted(stop)
        if deep or (deep is None and _is_deep_due(pool)):
            repaired += _compare_disk(pool, stop)
        steps = tuple(_carry_out(pool, stop))
        pool.reserve.fill()
    return Report(steps, tuple(repaired), time.monotonic() - began)


def planned(pool: Pool) -> Iterator[Step]:
    """Yield what a sweep would do now, without doing it."""
    now = pool.clock()
    for record in _due_records(pool, now):
        action = policy.next_action(record, pool.settings.policy(record.kernelspec), now)
        if action is not None:
            yield _step(action, record, pool.settings.policy(record.kernelspec), now)
    for record, reason in _crowding(pool):
        yield Step(Action.EVICT, record.session, record.id, reason)


def _carry_out(pool: Pool, cancel: threading.Event) -> Iterator[Step]:
    now = pool.clock()
    due = _due_records(pool, now)
    for found in due:
        # Looked up anew: a backup takes minutes, and people do not stand still.
        record = pool.registry.get(found.id)
        tried: set[Action] = set()
        while record is not None and not cancel.is_set():
            action = policy.next_action(
                record, pool.settings.policy(record.kernelspec), pool.clock()
            )
            if action is None or action in tried:
                break
            tried.add(action)
            done = _do(
                pool,
                _step(action, record, pool.settings.policy(record.kernelspec), pool.clock()),
                cancel,
            )
            yield done
            if done.error is not None:
                break
            record = pool.registry.get(found.id)
    for record, reason in _crowding(pool):
        if cancel.is_set():
            return
        yield _do(pool, Step(Action.EVICT, record.session, record.id, reason), cancel)


def _do(pool: Pool, step: Step, cancel: threading.Event) -> Step:
    work: dict[Action, Callable[[], Any]] = {
        Action.BACK_UP: lambda: pool.back_up(step.volume, cancel=cancel),
        Action.PRUNE: lambda: pool.prune(step.volume),
        Action.EVICT: lambda: pool.evict(_known(pool, step), cancel),
    }
    try:
        work[step.action]()
    except (VolumeHeld, Cancelled) as error:
        return replace(step, error=str(error))
    except (VolumeError, OSError) as error:
        log.warning("Could not %s %r: %s", step.action.value, step.session, error)
        return replace(step, error=str(error))
    return step


def _known(pool: Pool, step: Step) -> Record:
    record = pool.registry.get(step.volume)
    if record is None:
        raise VolumeHeld(f"The volume of {step.session!r} was deleted meanwhile.")
    return record


# -- what is due ---------------------------------------------------------------------------------------------------


def _due_records(pool: Pool, now: datetime) -> list[Record]:
    """Return the volumes for which something may be due, by the two partial indices of the table."""
    prune = [p.prune_after for p in pool.settings.policies() if p.prune_after is not None]
    backup = [p.backup_after for p in pool.settings.policies() if p.backup_after is not None]
    found: list[Record] = []
    if prune or backup:
        found += pool.registry.to_back_up(now - min(prune + backup), now)
    if prune:
        found += pool.registry.to_prune(now - min(prune))
    return found


def _crowding(pool: Pool) -> Iterator[tuple[Record, str]]:
    """Yield the volumes that must go so that places and bytes are within their limits, with the reason."""
    settings = pool.settings
    places = pool.registry.places_taken() - max(settings.max_volumes - settings.headroom, 0)
    excess = 0 if settings.max_bytes is None else pool.registry.bytes_on_disk() - settings.max_bytes
    if places <= 0 and excess <= 0:
        return
    for record in policy.eviction_order(pool.volumes()):
        if places > 0:
            reason = f"keeps {settings.headroom} of {settings.max_volumes} places free"
        elif excess > 0 and record.bytes:
            reason = f"{excess:,} bytes over VolumePool.max_bytes"
        else:
            continue
        places -= 1
        excess -= record.bytes or 0
        yield record, reason


def _step(action: Action, record: Record, of: Policy, now: datetime) -> Step:
    stopped = record.stopped or now
    reason = f"stopped for {format_duration(now - stopped)}"
    if action is Action.PRUNE:
        reason += f", backed up, prune_after {format_duration(of.prune_after)}"
    elif of.backup_after is not None:
        reason += f", backup_after {format_duration(of.backup_after)}"
    return Step(action, record.session, record.id, reason)


# -- comparing the disk with the table -----------------------------------------------------------------------------


def _compare_disk(pool: Pool, cancel: threading.Event) -> list[str]:
    """Adopt directories that the table does not know, note files that are gone, drop what is too old."""
    done = []
    on_disk = {path.name: path for path in pool.layout.volumes.iterdir() if path.is_dir()}
    records = {record.id: record for record in pool.registry.volumes()}
    for volume_id, path in on_disk.items():
        # Looked at again: a prune may have come between.
        if volume_id not in records and path.exists():
            pool.registry.adopt(found_record(pool.layout, path, pool.clock()))
            done.append(f"{path}: entered into the table")
    for record in records.values():
        if cancel.is_set():
            break
        if record.has_files != (record.id in on_disk):
            with contextlib.suppress(VolumeHeld):
                if (said := pool.put_right(record.id)) is not None:
                    done.append(said)
    _drop_aged(pool)
    _remove_leases(pool, records)
    done += pool.tidy_destinations(cancel)
    (pool.layout.root / "sweep.stamp").touch(mode=0o600)
    return done


def _drop_aged(pool: Pool) -> None:
    ages = [p.keep.age for p in pool.settings.policies() if p.keep.age is not None]
    if ages:
        for volume_id in pool.registry.aged_backups(pool.clock() - min(ages)):
            record = pool.registry.get(volume_id)
            if record is not None:
                pool.drop_superfluous(record)


def _remove_leases(pool: Pool, records: dict[str, Record]) -> None:
    """Delete the files of leases whose volumes are no more."""
    for path in pool.layout.leases.iterdir():
        volume_id = path.name.split(".", 1)[0]
        if volume_id not in records and pool.registry.get(volume_id) is None:
            pool.remove_lease(volume_id)


def _is_deep_due(pool: Pool) -> bool:
    try:
        stamp = (pool.layout.root / "sweep.stamp").stat().st_mtime
    except FileNotFoundError:
        return True
    return abs(pool.clock().timestamp() - stamp) >= _DEEP_EVERY.total_seconds()
