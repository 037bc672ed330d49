"""The capacity of a pool: where no slot is free, the stopped volume that is needed least is evicted."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from provisioner.core import policy
from provisioner.core.errors import NotBackedUp, PoolFull, VolumeError, VolumeHeld
from provisioner.core.event import Kind
from provisioner.core.record import Record
from provisioner.pool.backups import Backups
from provisioner.pool.catalog import Catalog
from provisioner.pool.differences import Differences
from provisioner.pool.files import Files
from provisioner.pool.leases import Leases
from provisioner.pool.pruning import Pruning
from provisioner.pool.refusals import full
from provisioner.pool.root import Root
from provisioner.settings.log import log
from provisioner.system.lease import Purpose

T = TypeVar("T")


class Capacity:
    """The slots and the bytes of a pool. A slot is the right of a volume to have files on disk.

    Parameters
    ----------
    root
        The root, which all parts of the pool share.
    leases, catalog, files, backups, pruning
        The parts that an eviction works with.
    differences
        Finds volumes that a killed process entered and never made.
    """

    def __init__(
        self,
        root: Root,
        leases: Leases,
        catalog: Catalog,
        files: Files,
        backups: Backups,
        pruning: Pruning,
        differences: Differences,
    ) -> None:
        self._root = root
        self._leases = leases
        self._catalog = catalog
        self._files = files
        self._backups = backups
        self._pruning = pruning
        self._differences = differences

    def evict(self, volume_id: str, cancel: threading.Event | None = None) -> None:
        """Make room: back a stopped volume up if that has not been done, then delete its files."""
        with self._leases.maintenance(volume_id, Purpose.BACKUP, cancel) as leased:
            record = leased.record
            if record.generation and self._backups.back_up_leased(leased).partial:
                raise NotBackedUp(
                    f"The volume of {record.session!r} cannot make room: its backup is partial; "
                    "`jupyter volumes backups` tells what could not be read."
                )
            self._pruning.prune_leased(leased, force=record.spare is not None, kind=Kind.EVICTED)

    def make_room(self, slots: int, cancel: threading.Event) -> int:
        """Evict until `slots` slots are free or nothing more may go; return how many are free."""
        for record in self._root.registry.volumes.unborn():
            # The process that was making it was killed, or is making it now and holds it.
            with contextlib.suppress(VolumeHeld):
                self._differences.settle(record.id)
        for record in policy.eviction_order(self._catalog.volumes()):
            if self._free_slots() >= slots or cancel.is_set():
                break
            if not record.is_backed_up and record.retry and record.retry > self._root.clock():
                continue  # its backup failed a moment ago: do not wait for it to fail again
            try:
                self.evict(record.id, cancel)
            except VolumeHeld:
                continue
            except (VolumeError, OSError) as error:
                log.warning("%r cannot make room: %s", record.session, error)
        self._files.empty_trash_in_background()
        return self._free_slots()

    def take_slot(self, record: Record, cancel: threading.Event) -> None:
        """Count a volume that is brought back among those with files, evicting another if need be (`PoolFull`)."""
        self.with_room(
            record.session,
            cancel,
            lambda: self._root.registry.volumes.take_slot(
                record.id, self._root.clock(), self._root.settings.max_volumes
            ),
        )

    def with_room(self, session: str, cancel: threading.Event, work: Callable[[], T]) -> T:
        """Do work that takes a slot; where none is free, evict and try again, since others may take it meanwhile.

        Raises
        ------
        PoolFull
            If no volume can make room; says what fills the pool.
        """
        for _ in range(5):
            try:
                return work()
            except PoolFull:
                if self.make_room(1, cancel) < 1:
                    break
        raise full(session, self._catalog.volumes(), self._root.settings.max_volumes)

    def crowding(self) -> Iterator[tuple[Record, str]]:
        """Yield the volumes that must go so that slots and bytes stay within their limits, with the reason."""
        settings, volumes = self._root.settings, self._root.registry.volumes
        slots = volumes.slots_taken() - max(settings.max_volumes - settings.headroom, 0)
        excess = 0 if settings.max_bytes is None else volumes.bytes_on_disk() - settings.max_bytes
        if slots <= 0 and excess <= 0:
            return
        for record in policy.eviction_order(self._catalog.volumes()):
            if slots > 0:
                reason = f"keeps {settings.headroom} of {settings.max_volumes} slots free"
            elif excess > 0 and record.bytes:
                reason = f"{excess:,} bytes over VolumePool.max_bytes"
            else:
                continue
            slots -= 1
            excess -= record.bytes or 0
            yield record, reason

    def _free_slots(self) -> int:
        return self._root.settings.max_volumes - self._root.registry.volumes.slots_taken()
