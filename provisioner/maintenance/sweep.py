"""One pass of maintenance: carries out what policy decides.

A sweep may be killed at any line. It keeps no state between steps: what is due is read from the table, each step is
done under the volume's lease, and the next sweep reads the table anew.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from provisioner.core import policy
from provisioner.core.duration import format_duration
from provisioner.core.errors import Cancelled, VolumeError, VolumeHeld
from provisioner.core.policy import Action
from provisioner.core.record import Record
from provisioner.pool.pool import Pool
from provisioner.settings.log import log
from provisioner.system import locks

_DEEP_EVERY = timedelta(hours=1)
"""How often a sweep compares the whole disk with the table; in between it reads only what is due."""


@dataclass(frozen=True)
class Step:
    """One action of a sweep on one volume, done or planned. `error` says what went wrong; None if nothing did."""

    action: Action
    session: str
    volume: str
    reason: str
    error: str | None = None


@dataclass(frozen=True)
class Report:
    """What one sweep did: its steps in their order, and how many seconds it took."""

    steps: tuple[Step, ...] = ()
    repaired: tuple[str, ...] = ()
    """The differences between disk and table that the sweep settled, a line each."""
    seconds: float = 0.0
    skipped: bool = False
    """Whether another process was sweeping this root, so that nothing was done."""


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
    cancel
        Ends the sweep within a second; the next sweep does what this one did not finish.
    dry_run
        Only report what would be done.
    deep
        Whether to compare the whole disk with the table; None: if the last comparison is an hour old.
    """
    began = time.monotonic()
    stop = cancel or threading.Event()
    if dry_run:
        return Report(tuple(_planned(pool)), seconds=time.monotonic() - began)
    root = pool.root.layout.root
    lock = locks.try_lock(root / "sweep.lock")
    if lock is None:
        return Report(skipped=True, seconds=time.monotonic() - began)
    with locks.unlocking(lock):
        repaired = pool.differences.finish_interrupted(stop)
        stamp = root / "sweep.stamp"
        if deep or (deep is None and _is_deep_due(stamp, pool.clock())):
            repaired += pool.differences.settle_disk(stop)
            pool.backups.drop_aged()
            stamp.touch(mode=0o600)
        steps = tuple(_carry_out(pool, stop))
        # Not in a thread: a process may end with its sweep.
        pool.files.empty_trash(stop)
        pool.root.reserve.fill()
    return Report(steps, tuple(repaired), time.monotonic() - began)


def _planned(pool: Pool) -> Iterator[Step]:
    for record in pool.catalog.to_do(pool.clock()):
        step = _next_step(pool, record)
        if step is not None:
            yield step
    yield from _evictions(pool)


def _carry_out(pool: Pool, cancel: threading.Event) -> Iterator[Step]:
    for found in pool.catalog.to_do(pool.clock()):
        # Read anew after each step: a backup takes minutes, and meanwhile a kernel may have used the volume.
        record = pool.catalog.get(found.id)
        tried: set[Action] = set()
        while record is not None and not cancel.is_set():
            step = _next_step(pool, record)
            if step is None or step.action in tried:
                break
            tried.add(step.action)
            done = _do(pool, step, cancel)
            yield done
            if done.error is not None:
                break
            record = pool.catalog.get(found.id)
    for step in _evictions(pool):
        if cancel.is_set():
            return
        yield _do(pool, step, cancel)


def _next_step(pool: Pool, record: Record) -> Step | None:
    of, now = pool.settings.policy(record.kernelspec), pool.clock()
    action = policy.next_action(record, of, now)
    if action is None:
        return None
    reason = f"stopped for {format_duration(now - (record.stopped or now))}"
    if action is Action.PRUNE:
        reason += f", backed up, prune_after {format_duration(of.prune_after)}"
    elif of.backup_after is not None:
        reason += f", backup_after {format_duration(of.backup_after)}"
    return Step(action, record.session, record.id, reason)


def _evictions(pool: Pool) -> Iterator[Step]:
    for record, reason in pool.capacity.crowding():
        yield Step(Action.EVICT, record.session, record.id, reason)


def _do(pool: Pool, step: Step, cancel: threading.Event) -> Step:
    work: dict[Action, Callable[[], Any]] = {
        Action.BACK_UP: lambda: pool.back_up(step.volume, cancel=cancel),
        Action.PRUNE: lambda: pool.prune(step.volume),
        Action.EVICT: lambda: pool.capacity.evict(step.volume, cancel),
    }
    try:
        work[step.action]()
    except (VolumeHeld, Cancelled) as error:
        return replace(step, error=str(error))
    except (VolumeError, OSError) as error:
        log.warning("Could not %s %r: %s", step.action.value, step.session, error)
        return replace(step, error=str(error))
    return step


def _is_deep_due(stamp: Path, now: datetime) -> bool:
    try:
        last = stamp.stat().st_mtime
    except FileNotFoundError:
        return True
    return abs(now.timestamp() - last) >= _DEEP_EVERY.total_seconds()
