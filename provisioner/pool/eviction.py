"""The room in a pool: where no place is free, the stopped volume that is needed least is evicted."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from provisioner.core import policy
from provisioner.core.errors import NotBackedUp, PoolFull, VolumeError, VolumeHeld
from provisioner.core.event import Kind
from provisioner.core.record import Record
from provisioner.pool.pruning import Pruning
from provisioner.pool.refusals import full
from provisioner.pool.repair import Repair
from provisioner.settings.log import log
from provisioner.system.lease import Purpose


class Eviction(Pruning, Repair):
    """A catalog whose stopped volumes make room for others."""

    def evict(self, record: Record, cancel: threading.Event | None = None) -> None:
        """Make room: back a stopped volume up if that has not been done, then delete its files."""
        with self.leased(record.id, Purpose.BACKUP, cancel) as leased:
            if leased.record.generation and self._back_up(leased).partial:
                raise NotBackedUp(
                    f"The volume of {record.session!r} cannot make room: its backup is partial; "
                    "`jupyter volumes backups` tells what could not be read."
                )
            self._prune(leased, force=leased.record.spare is not None, kind=Kind.EVICTED)

    def make_room(self, places: int, cancel: threading.Event) -> int:
        """Evict until `places` places are free or nothing more may go; return how many places are free."""
        for record in self.registry.unborn():
            # Whoever was making it was killed, or is at it now and holds it.
            with contextlib.suppress(VolumeHeld):
                self.put_right(record.id)
        for record in policy.eviction_order(self.volumes()):
            if self._free_places() >= places or cancel.is_set():
                break
            if not record.is_backed_up and record.retry and record.retry > self.clock():
                continue  # its backup failed a moment ago: nobody waits for it to fail again
            try:
                self.evict(record, cancel)
            except VolumeHeld:
                continue
            except (VolumeError, OSError) as error:
                log.warning("%r cannot make room: %s", record.session, error)
        self.empty_trash_in_background()
        return self._free_places()

    def _free_places(self) -> int:
        return self.settings.max_volumes - self.registry.places_taken()

    def _take_place(self, record: Record, cancel: threading.Event) -> None:
        """Count a volume that comes back among those with files, making room if need be."""
        self._make_room_for(
            record.session,
            cancel,
            lambda: self.registry.take_place(record.id, self.clock(), self.settings.max_volumes),
        )

    def _make_room_for(
        self, session: str, cancel: threading.Event, work: Callable[[], None]
    ) -> None:
        """Do what needs a place; where there is none, evict and try again, as others may take it meanwhile."""
        for _ in range(5):
            try:
                work()
            except PoolFull:
                if self.make_room(1, cancel) < 1:
                    break
            else:
                return
        raise full(session, self.volumes(), self.settings.max_volumes)
