"""A picture of the pool for metrics: taken in a worker thread at most every so often, shown at once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from provisioner.core.errors import VolumeError
from provisioner.core.record import State
from provisioner.pool.pool import Pool
from provisioner.settings.log import log

T = TypeVar("T")


@dataclass(frozen=True)
class Picture:
    """The pool at one moment.

    Parameters
    ----------
    volumes, bytes
        How many volumes, and how many bytes of files as last measured, by state.
    backup_age
        Seconds since the newest backup was made; None if there is none.
    waiting_for_backup
        Seconds for which the volume has been stopped that has longest had no current backup; None if all have.
    """

    volumes: dict[State, int] = field(default_factory=dict)
    bytes: dict[State, int] = field(default_factory=dict)
    backup_age: float | None = None
    waiting_for_backup: float | None = None


def take(pool: Pool) -> Picture:
    """Take a picture; blocks."""
    now = pool.clock()
    volumes: Counter[State] = Counter()
    sizes: Counter[State] = Counter()
    waiting: list[datetime] = []
    for record in pool.volumes():
        volumes[record.state] += 1
        sizes[record.state] += record.bytes or 0
        if record.state is State.STOPPED and not record.is_backed_up and record.stopped:
            waiting.append(record.stopped)
    newest = max((backup.created for backup in pool.backups.list()), default=None)
    return Picture(
        dict(volumes),
        dict(sizes),
        None if newest is None else (now - newest).total_seconds(),
        (now - min(waiting)).total_seconds() if waiting else None,
    )


class Snapshot(Generic[T]):
    """Shows the last picture at once and has a new one taken in the background when it is old.

    Parameters
    ----------
    take
        Takes a picture; may block.
    first
        Shown until there is one.
    every
        Seconds that a picture counts as new.
    clock
        Seconds that only grow.
    """

    def __init__(
        self,
        take: Callable[[], T],
        first: T,
        every: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._take = take
        self._last = first
        self._every = every
        self._clock = clock
        self._taken: float | None = None
        self._taking = threading.Lock()

    def show(self) -> T:
        """Return the last picture; never blocks."""
        is_old = self._taken is None or self._clock() - self._taken >= self._every
        if is_old and self._taking.acquire(blocking=False):
            try:
                threading.Thread(target=self._renew, name="volumes-metrics", daemon=True).start()
            except RuntimeError:  # no thread to be had now; there may be at the next look
                self._taking.release()
        return self._last

    def _renew(self) -> None:
        try:
            self._last = self._take()
        except (VolumeError, OSError) as error:
            log.warning("The metrics of volumes are not renewed: %s", error)
        finally:
            self._taken = self._clock()
            self._taking.release()
