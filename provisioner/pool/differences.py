"""The differences between the disk and the table: found, and settled by finishing or undoing interrupted work."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from provisioner.core.errors import VolumeError, VolumeHeld
from provisioner.core.record import Record, Spare, State
from provisioner.pool.backups import Backups
from provisioner.pool.files import Files, owner
from provisioner.pool.leases import Leased, Leases
from provisioner.pool.root import Root
from provisioner.registry.rebuild import found_record, volume_directories
from provisioner.settings.log import log
from provisioner.system.lease import Purpose, is_held


class Cause(Enum):
    """What is different."""

    INTERRUPTED = "a killed process left work unfinished"
    STALE = "the record says active, and no process holds the lease"
    UNKNOWN = "the table does not know the directory"
    MISSING = "the files are gone"
    STRAY = "files lie where the table has a pruned volume"
    ORPHANED_LEASE = "the lease belongs to no volume"


@dataclass(frozen=True)
class Difference:
    """One difference between the disk and the table.

    `path` is the directory of the volume with the id `volume` or, of an orphaned lease, its file; `session` is empty
    if the table does not know the volume.
    """

    cause: Cause
    volume: str
    path: Path
    session: str = ""


@dataclass(eq=False)
class Differences:
    """Compares the disk with the table. The sweep, `jupyter volumes doctor` and an eviction settle what it finds."""

    _root: Root
    _leases: Leases
    _files: Files
    _backups: Backups

    # -- finding ---------------------------------------------------------------------------------------------

    def stale(self) -> Iterator[Difference]:
        """Yield the volumes whose record says active though no process holds their lease."""
        for record in self._root.registry.volumes.active():
            if not self._leases.is_held(record):
                yield self._of(Cause.STALE, record)

    def interrupted(self) -> Iterator[Difference]:
        """Yield what interrupted work marks: staging, trash, and volumes that were entered and never made."""
        layout, volumes = self._root.layout, self._root.registry.volumes
        ids = {owner(name) for name in (*os.listdir(layout.staging), *self._files.trash.waiting())}
        ids |= {record.id for record in volumes.unborn()}
        for volume_id in sorted(ids):
            if (record := volumes.get(volume_id)) is not None:
                yield self._of(Cause.INTERRUPTED, record)

    def on_disk(self) -> Iterator[Difference]:
        """Yield the differences that a comparison of all directories with all records shows."""
        layout = self._root.layout
        directories = {path.name: path for path in volume_directories(layout)}
        records = {record.id: record for record in self._root.registry.volumes.all()}
        for volume_id, path in directories.items():
            # Checked again: a prune may have come between.
            if volume_id not in records and path.exists():
                yield Difference(Cause.UNKNOWN, volume_id, path)
        for record in records.values():
            if record.has_files and not layout.volume(record.id).is_dir():
                if not self._leases.is_held(record):
                    yield self._of(Cause.MISSING, record)
            elif not record.has_files and record.id in directories:
                yield self._of(Cause.STRAY, record)
        for path in sorted(layout.leases.iterdir()):
            volume_id = owner(path.name)
            if volume_id in records or volume_id in directories:
                continue
            # Another program may have put anything there.
            if path.is_file() and not path.is_symlink() and not is_held(path):
                yield Difference(Cause.ORPHANED_LEASE, volume_id, path)

    def _of(self, cause: Cause, record: Record) -> Difference:
        return Difference(cause, record.id, self._root.layout.volume(record.id), record.session)

    # -- settling --------------------------------------------------------------------------------------------

    def finish_interrupted(self, cancel: threading.Event) -> list[str]:
        """Finish or undo what killed processes began; return one line for each difference settled.

        Each sweep calls it. It reads only where interrupted work leaves its marks, so it costs nothing where there
        are none.
        """
        found = [*self.interrupted(), *self.stale()]
        staging = os.listdir(self._root.layout.staging)
        # Before anything is written: on a full disk this is what makes room.
        self._files.empty_trash(cancel)
        lines = self._settle_all(found, cancel)
        if any(name.endswith(".backup") for name in staging):
            lines += self._backups.tidy_destinations(cancel)
        return lines

    def settle_disk(self, cancel: threading.Event) -> list[str]:
        """Settle what the comparison of the whole disk shows; return one line for each difference settled."""
        lines = self._settle_all(self.on_disk(), cancel)
        return [*lines, *self._backups.tidy_destinations(cancel)]

    def settle(self, volume_id: str) -> str | None:
        """Make the record of one volume agree with the disk; return what was settled, in one line (`VolumeHeld`)."""
        if self._root.registry.volumes.get(volume_id) is None:
            return None
        with self._leases.maintenance(volume_id, Purpose.PRUNE) as leased:
            self._root.on_step("repair:leased")
            left = self._clear_staging(volume_id)
            self._root.on_step("repair:staging")
            return self._settle_files(leased) or (
                f"{leased.record.session!r}: interrupted work undone" if left else None
            )

    def apply(self, difference: Difference) -> str | None:
        """Settle one difference; return what was settled, in one line (see `settle`)."""
        if difference.cause is Cause.UNKNOWN:
            record = found_record(self._root.layout, difference.path, self._root.clock())
            self._root.registry.volumes.adopt(record)
            return f"{difference.path}: entered into the table"
        if difference.cause is Cause.ORPHANED_LEASE:
            self._leases.remove_unknown(difference.volume)
            return None
        return self.settle(difference.volume)

    def _settle_all(self, found: Iterable[Difference], cancel: threading.Event) -> list[str]:
        lines = []
        for difference in found:
            if cancel.is_set():
                break
            try:
                if (line := self.apply(difference)) is not None:
                    lines.append(line)
            except VolumeHeld:
                continue  # in use, or being made right now
            except (VolumeError, OSError) as error:
                log.warning("%s cannot be settled yet: %s", difference.path, error)
        return lines

    def _clear_staging(self, volume_id: str) -> bool:
        staging = self._root.layout.staging
        left = [name for name in os.listdir(staging) if owner(name) == volume_id]
        for name in left:
            self._files.trash.take(staging / name)
        return bool(left)

    def _settle_files(self, leased: Leased) -> str | None:
        record, volumes = leased.record, self._root.registry.volumes
        path = self._root.layout.volume(record.id)
        if record.generation == 0 and record.spare is not Spare.READY:
            self._files.discard(leased)
            return f"{record.session!r}: was never started, forgotten"
        has_files = path.exists()
        if record.has_files and not has_files:
            self._files.mark_gone(record, leased.lease)
            return f"{record.session!r}: its files are gone, marked pruned"
        if record.state is State.PRUNED and has_files:
            if self._files.set_stray_files_beside(record):
                return (
                    f"{record.session!r}: what was put where its files were has a volume beside it"
                )
            volumes.set_generation(record.id, record.generation + 1, self._root.clock())
            volumes.take_slot(record.id, self._root.clock(), sys.maxsize)
            return f"{record.session!r}: its files are there, marked stopped"
        return None
