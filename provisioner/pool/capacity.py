"""The capacity of a pool: stopped volumes are pruned, and where no slot is free, the one needed least is evicted."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from provisioner.core import policy
from provisioner.core.errors import Cancelled, NotBackedUp, PoolFull, VolumeError, VolumeHeld
from provisioner.core.event import Kind
from provisioner.core.record import Record, State
from provisioner.pool import fingerprint
from provisioner.pool.backups import Backups
from provisioner.pool.catalog import Catalog
from provisioner.pool.differences import Differences
from provisioner.pool.files import Files
from provisioner.pool.leases import Leased, Leases
from provisioner.pool.root import Root
from provisioner.settings.log import log
from provisioner.system.lease import Purpose
from provisioner.system.processes import processes_working_in

T = TypeVar("T")


@dataclass(eq=False)
class Capacity:
    """The slots and the bytes of a pool. A slot is the right of a volume to have files on disk."""

    _root: Root
    _leases: Leases
    _catalog: Catalog
    _files: Files
    _backups: Backups
    _differences: Differences

    # -- pruning ---------------------------------------------------------------------------------------------

    def prune(self, volume_id: str, *, force: bool = False, look_first: bool = False) -> Record:
        """Delete a stopped volume's files; its backups stay and can bring it back.

        The files are renamed away, which takes no time, and deleted in the background. Files that were changed
        since the backup, by a program without a lease, are put back.

        Parameters
        ----------
        volume_id
            The volume.
        force
            Its owner said that files without a backup may go.
        look_first
            Whether to look for changed files first, for a caller that ends at once; it takes time.

        Raises
        ------
        NotBackedUp
            If no verified backup of the present generation exists, and not `force`.
        VolumeHeld
            If the volume is in use.
        """
        try:
            with self._leases.maintenance(volume_id, Purpose.PRUNE) as leased:
                path = self._root.layout.volume(volume_id)
                if look_first and not force and fingerprint.has_changed(path):
                    self._backups.count_change(leased.record)
                return self._prune(leased, force=force)
        finally:
            # Also where the table could not be written: on a full disk this is what makes room.
            self._files.empty_trash_in_background()

    def delete(self, volume_id: str) -> None:
        """Delete a stopped volume with its files and all its backups, as its owner said."""
        try:
            with self._leases.maintenance(volume_id, Purpose.PRUNE) as leased:
                for backup in self._backups.list(volume_id):
                    self._backups.stored.drop(backup)
                self._prune(leased, force=True)
        finally:
            self._files.empty_trash_in_background()

    def _prune(self, leased: Leased, *, force: bool, kind: Kind = Kind.PRUNED) -> Record:
        """Rename the files of a volume into the trash, and record it; after a refusal the volume is as it was."""
        record = self._leases.settled(leased.record.id)
        path = self._root.layout.volume(record.id)
        if record.pinned and (not force or kind is Kind.EVICTED):
            raise NotBackedUp(
                f"The volume of {record.session!r} is pinned; unpin it first with `jupyter volumes unpin`."
            )
        if not force:
            self._require_prunable(leased, record)
        self._root.on_step("prune:rename")
        self._files.trash.take(path, look=not force)
        self._root.on_step("prune:renamed")
        gone = self._files.mark_gone(record, leased.lease)
        self._root.on_step("prune:marked")
        self._root.emit(kind, record, backed_up=record.is_backed_up)
        return gone

    def _require_prunable(self, leased: Leased, record: Record) -> None:
        if leased.cancel.is_set():
            raise Cancelled(f"{record.session!r} is wanted by a kernel, and stays.")
        if not self._backups.stored.has_current(record):
            raise NotBackedUp(
                f"The volume of {record.session!r} is not pruned: no verified backup of its generation "
                f"{record.generation} exists; make one with `jupyter volumes backup`, or use --force."
            )
        if pids := processes_working_in(self._root.layout.volume(record.id)):
            raise VolumeHeld(
                f"The volume of {record.session!r} stays: process {pids[0]} works in its directory; let it end or "
                "leave the directory, or use --force."
            )

    # -- making room -----------------------------------------------------------------------------------------

    def evict(self, volume_id: str, cancel: threading.Event | None = None) -> None:
        """Make room: back a stopped volume up if that has not been done, then delete its files."""
        with self._leases.maintenance(volume_id, Purpose.BACKUP, cancel) as leased:
            record = leased.record
            if record.generation and self._backups.back_up_leased(leased).partial:
                raise NotBackedUp(
                    f"The volume of {record.session!r} cannot make room: its backup is partial; "
                    "`jupyter volumes backups` tells what could not be read."
                )
            self._prune(leased, force=record.spare is not None, kind=Kind.EVICTED)

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
                if not self._has_made_room(cancel):
                    break
        raise _full(session, self._catalog.volumes(), self._root.settings.max_volumes)

    def _has_made_room(self, cancel: threading.Event) -> bool:
        """Evict until a slot is free or nothing more may go; return whether one is free."""
        volumes, slots = self._root.registry.volumes, self._root.settings.max_volumes
        for record in volumes.unborn():
            # The process that was making it was killed, or is making it now and holds it.
            with contextlib.suppress(VolumeHeld):
                self._differences.settle(record.id)
        for record in policy.eviction_order(self._catalog.volumes()):
            if volumes.slots_taken() < slots or cancel.is_set():
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
        return volumes.slots_taken() < slots

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


def _full(session: str, volumes: Iterable[Record], capacity: int) -> PoolFull:
    """Return the refusal of a new volume in a full pool: what fills it, and what can be done about it."""
    present = [record for record in volumes if record.has_files]
    stopped = policy.eviction_order(present)
    active = sum(record.state is State.ACTIVE for record in present)
    pinned = sum(record.pinned for record in present if record.state is State.STOPPED)
    if not stopped:
        cure = "shut a kernel down, unpin a volume with `jupyter volumes unpin SESSION`"
    else:
        names = ", ".join(repr(record.session) for record in stopped[:3])
        cure = (
            f"those stopped could not be backed up (longest stopped: {names}); see why with "
            "`jupyter volumes backup --all`, free one with `jupyter volumes prune SESSION --force`"
        )
    return PoolFull(
        f"All {capacity} slots of the pool are taken, so {session!r} gets no volume: {active} in use, {pinned} pinned, "
        f"{len(stopped)} stopped; {cure}, or raise VolumePool.max_volumes."
    )
