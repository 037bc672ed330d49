"""The backups of volumes as their policy has them: made of what has none, dropped when superfluous."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace

from provisioner.core import policy
from provisioner.core.errors import BackupFailed, Cancelled, VolumeError, VolumeNotFound
from provisioner.core.event import Kind
from provisioner.core.progress import Progress, no_progress
from provisioner.core.record import BackupRecord, Record
from provisioner.pool.custody import Custody, Leased
from provisioner.pool.seal import is_broken, seal
from provisioner.settings.log import log
from provisioner.system.lease import Purpose


class Safekeeping(Custody):
    """A catalog whose volumes can be backed up."""

    def back_up(
        self,
        volume_id: str,
        *,
        cancel: threading.Event | None = None,
        progress: Progress = no_progress,
    ) -> BackupRecord:
        """Back a stopped volume up and return the verified backup; one of these very files is not made twice.

        Raises
        ------
        VolumeHeld
            If the volume is in use.
        Cancelled
            If `cancel` was set, or somebody asked for the volume meanwhile.
        BackupFailed, DiskFull
            Nothing is left behind; the table remembers when to try again.
        """
        with self.leased(volume_id, Purpose.BACKUP, cancel) as leased:
            return self._back_up(leased, progress)

    def backups(self, volume_id: str | None = None) -> list[BackupRecord]:
        """Return the backups of one volume, or all, newest first."""
        return self.registry.backups(volume_id)

    def backup_named(self, name: str) -> BackupRecord:
        """Return the backup of that name.

        Raises
        ------
        VolumeNotFound
            If there is none.
        """
        for backup in self.registry.backups():
            if backup.name == name:
                return backup
        raise VolumeNotFound(
            f"No backup is named {name[:200]!r}; `jupyter volumes backups` lists those there are."
        )

    def verify(
        self,
        backup: BackupRecord,
        *,
        cancel: threading.Event | None = None,
        progress: Progress = no_progress,
    ) -> None:
        """Read a backup whole; one that is damaged (`BackupDamaged`) no longer lets its volume be pruned."""
        self.vault.verify(backup, self.clock(), cancel or threading.Event(), progress)

    def drop_superfluous(self, record: Record) -> list[BackupRecord]:
        """Delete the backups of a volume that its policy does not keep; return them."""
        keep = self.settings.policy(record.kernelspec).keep
        gone = policy.superfluous(self.registry.backups(record.id), keep, self.clock())
        for backup in gone:
            try:
                self.vault.drop(backup)
            except VolumeError as error:
                log.warning("An old backup stays for now: %s", error)
        return gone

    # -- the steps of a backup -------------------------------------------------------------------------------

    def _back_up(self, leased: Leased, progress: Progress = no_progress) -> BackupRecord:
        record = leased.record
        if self.vault.has_current(record):
            if not is_broken(self.layout.volume(record.id)):
                current = self.vault.newest(record)
                assert current is not None
                return current
            leased = replace(leased, record=self._changed_since_backup(record))
        if not record.generation or not self.layout.volume(record.id).exists():
            raise BackupFailed(
                f"The volume of {record.session!r} has no files on disk, so there is nothing to back up; "
                "start a kernel in it first."
            )
        # Where a killed process leaves this mark, the next sweep tidies the destination.
        mark = self.layout.staging / f"{record.id}.backup"
        mark.mkdir(mode=0o700, exist_ok=True)
        try:
            return self._make_backup(leased, progress)
        finally:
            with contextlib.suppress(OSError):
                mark.rmdir()

    def _changed_since_backup(self, record: Record) -> Record:
        """Count up the generation of files that something has changed without a lease: no backup has them."""
        log.warning(
            "The files of %r were changed after their backup was made, outside of a kernel; they are backed up anew.",
            record.session,
        )
        return self.registry.set_generation(record.id, record.generation + 1, self.clock())

    def _make_backup(self, leased: Leased, progress: Progress) -> BackupRecord:
        record = leased.record
        own = self.settings.policy(record.kernelspec)
        vault = self.vault_at(own.destination)
        seal(self.layout.volume(record.id), own.exclude)
        try:
            made = vault.back_up(record, tuple(own.exclude), self.clock, leased.cancel, progress)
        except Cancelled:
            raise
        except (VolumeError, OSError) as error:
            self._note_failure(record, str(error), getattr(error, "code", BackupFailed.code))
            raise
        if made.partial:
            self._note_failure(record, f"the backup {made.name} is partial", "backup-partial")
        self._emit(Kind.BACKED_UP, record, backup=made.name, bytes=made.bytes, size=made.size)
        self.drop_superfluous(record)
        return made

    def _note_failure(self, record: Record, reason: str, code: str) -> None:
        """Remember that a backup failed, so that it is tried again, later and later, and people can see why."""
        log.warning("Backing up %r failed: %s", record.session, reason)
        with contextlib.suppress(VolumeError):
            again = policy.retry_at(self.clock(), record.failures)
            self.registry.postpone_backup(record.id, again)
            self.registry.set_note(record.id, f"backup failed: {reason}"[:300])
        action = policy.Action.BACK_UP.value
        self._emit(Kind.FAILED, record, action=action, message=reason, code=code)
