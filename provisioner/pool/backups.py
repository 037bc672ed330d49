"""The backups of volumes, as their policy has them: made, listed, and dropped when superfluous."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from provisioner.core import policy
from provisioner.core.errors import (
    BackupFailed,
    Cancelled,
    RestoreFailed,
    VolumeError,
    VolumeNotFound,
)
from provisioner.core.event import Kind
from provisioner.core.progress import Progress, no_progress
from provisioner.core.record import BackupRecord, Record
from provisioner.pool import fingerprint
from provisioner.pool.leases import Leased, Leases
from provisioner.pool.root import Root
from provisioner.settings.log import log
from provisioner.system.lease import Purpose

if TYPE_CHECKING:
    from provisioner.pool.stored import StoredBackups


@dataclass(eq=False)
class Backups:
    """The backups of the volumes under one root, wherever they lie. They are made under their volume's lease."""

    _root: Root
    _leases: Leases

    def at(self, destination: str) -> StoredBackups:
        """Return the backups stored at a destination."""
        # Imported here: a start that needs no backup does not load the archive's code.
        from provisioner.pool.stored import StoredBackups

        root = self._root
        return StoredBackups(root.layout, root.registry, destination, root.clock, root.on_step)

    @property
    def stored(self) -> StoredBackups:
        """The backups at the general destination; it reaches those at every other destination too."""
        return self.at(self._root.settings.destination)

    # -- making ----------------------------------------------------------------------------------------------

    def back_up(
        self,
        volume_id: str,
        *,
        cancel: threading.Event | None = None,
        progress: Progress = no_progress,
    ) -> BackupRecord:
        """Back a stopped volume up and return the verified backup; the existing one if nothing changed since.

        Raises
        ------
        VolumeHeld
            If the volume is in use.
        Cancelled
            If `cancel` was set, or a person asked for the volume meanwhile.
        BackupFailed, DiskFull
            Nothing is left behind; the table remembers when to try again.
        """
        with self._leases.maintenance(volume_id, Purpose.BACKUP, cancel) as leased:
            return self.back_up_leased(leased, progress)

    def back_up_leased(self, leased: Leased, progress: Progress = no_progress) -> BackupRecord:
        """Back a volume up whose lease the caller holds (see `back_up`)."""
        record = leased.record
        path = self._root.layout.volume(record.id)
        if self.stored.has_current(record):
            if not fingerprint.has_changed(path):
                current = self.stored.newest(record)
                assert current is not None
                return current
            record = self.count_change(record)
        if not record.generation or not path.exists():
            raise BackupFailed(
                f"The volume of {record.session!r} has no files on disk, so there is nothing to back up; "
                "start a kernel in it first."
            )
        # Where a killed process leaves this mark, the next sweep tidies the destination.
        mark = self._root.layout.staging / f"{record.id}.backup"
        mark.mkdir(mode=0o700, exist_ok=True)
        try:
            return self._make(replace(leased, record=record), path, progress)
        finally:
            with contextlib.suppress(OSError):
                mark.rmdir()

    def count_change(self, record: Record) -> Record:
        """Count up the generation of files that were changed without a lease: no backup has them."""
        log.warning(
            "The files of %r were changed after their backup was made, outside of a kernel; they are backed up anew.",
            record.session,
        )
        return self._root.registry.volumes.set_generation(
            record.id, record.generation + 1, self._root.clock()
        )

    def _make(self, leased: Leased, path: Path, progress: Progress) -> BackupRecord:
        record = leased.record
        own = self._root.settings.policy(record.kernelspec)
        fingerprint.take(path, own.exclude)
        try:
            made = self.at(own.destination).back_up(
                record, tuple(own.exclude), leased.cancel, progress
            )
        except Cancelled:
            raise
        except (VolumeError, OSError) as error:
            self._note_failure(record, str(error), getattr(error, "code", BackupFailed.code))
            raise
        if made.partial:
            self._note_failure(record, f"the backup {made.name} is partial", "backup-partial")
        self._root.emit(Kind.BACKED_UP, record, backup=made.name, bytes=made.bytes, size=made.size)
        self._drop_superfluous(record)
        return made

    def _note_failure(self, record: Record, reason: str, code: str) -> None:
        """Record that a backup failed, so that it is tried again after a growing delay, and people can see why."""
        log.warning("Backing up %r failed: %s", record.session, reason)
        volumes = self._root.registry.volumes
        with contextlib.suppress(VolumeError):
            again = policy.retry_at(self._root.clock(), record.failures)
            volumes.postpone_backup(record.id, again)
            volumes.set_note(record.id, f"backup failed: {reason}"[:300])
        action = policy.Action.BACK_UP.value
        self._root.emit(Kind.FAILED, record, action=action, message=reason, code=code)

    def note_killed(self, reason: str) -> None:
        """Record a failure for each backup that a killed process left half-made, so that the next try waits."""
        with contextlib.suppress(VolumeError):
            for name in os.listdir(self._root.layout.staging):
                volume_id, _, mark = name.partition(".")
                record = self._root.registry.volumes.get(volume_id) if mark == "backup" else None
                if record and not record.is_backed_up and not self._leases.is_held(record):
                    self._note_failure(record, reason, BackupFailed.code)

    # -- finding ---------------------------------------------------------------------------------------------

    def list(self, volume_id: str | None = None) -> Sequence[BackupRecord]:
        """Return the backups of one volume, or all, newest first."""
        return self._root.registry.backups.all(volume_id)

    def named(self, name: str) -> BackupRecord:
        """Return the backup of that name (`VolumeNotFound`)."""
        for backup in self.list():
            if backup.name == name:
                return backup
        raise VolumeNotFound(
            f"No backup is named {name[:200]!r}; `jupyter volumes backups` lists those there are."
        )

    def choose(self, record: Record, name: str | None = None) -> BackupRecord:
        """Return the backup of a volume that has this name, or the newest whole one (`RestoreFailed` if none)."""
        if name is None:
            found = self.stored.newest(record)
            missing = f"The volume of {record.session!r} has no backup to bring back"
        else:
            found = next((backup for backup in self.list(record.id) if backup.name == name), None)
            missing = f"{name!r} is no backup of {record.session!r}"
        if found is None:
            raise RestoreFailed(f"{missing}; `jupyter volumes backups` lists those there are.")
        return found

    # -- dropping --------------------------------------------------------------------------------------------

    def drop_aged(self) -> None:
        """Delete the backups that their policy keeps no longer because of their age."""
        ages = [p.keep.age for p in self._root.settings.policies() if p.keep.age is not None]
        if not ages:
            return
        registry = self._root.registry
        for volume_id in registry.backups.volumes_with_aged(self._root.clock() - min(ages)):
            record = registry.volumes.get(volume_id)
            if record is not None:
                self._drop_superfluous(record)

    def tidy_destinations(self, cancel: threading.Event) -> Sequence[str]:
        """Tidy each destination (see `StoredBackups.tidy`); return a line for each backup entered into the table."""
        lines = []
        for destination in self._root.settings.destinations:
            try:
                entered = self.at(destination).tidy(cancel)
                lines += [f"{name}: a whole backup, entered" for name in entered]
            except (VolumeError, OSError) as error:
                log.warning("A backup destination cannot be tidied: %s", error)
        return lines

    def _drop_superfluous(self, record: Record) -> None:
        """Delete the backups of a volume that its policy does not keep."""
        keep = self._root.settings.policy(record.kernelspec).keep
        for backup in policy.superfluous(self.list(record.id), keep, self._root.clock()):
            try:
                self.stored.drop(backup)
            except VolumeError as error:
                log.warning("An old backup stays for now: %s", error)
