"""The restoration of volumes from their backups: aside first, then into place by one rename."""

from __future__ import annotations

import contextlib
import secrets
import threading
from pathlib import Path

from provisioner.core.errors import NotBackedUp, RestoreFailed
from provisioner.core.event import Kind
from provisioner.core.progress import Progress, no_progress
from provisioner.core.record import BackupRecord, Record
from provisioner.pool.eviction import Eviction
from provisioner.pool.seal import seal
from provisioner.settings.log import log
from provisioner.system.lease import Purpose


class Restoration(Eviction):
    """A catalog whose volumes can be brought back."""

    def restore(
        self,
        volume_id: str,
        *,
        backup: str | None = None,
        cancel: threading.Event | None = None,
        progress: Progress = no_progress,
    ) -> Record:
        """Bring a volume back from its newest backup, or the one named; return its record.

        Files that lie on disk are backed up first and then replaced: nothing is lost by a restore.

        Raises
        ------
        RestoreFailed
            If there is no (such) backup.
        BackupDamaged
            Naming the damaged backup; nothing was changed.
        VolumeHeld, PoolFull, DiskFull, Cancelled
            Nothing was changed.
        """
        with self.leased(volume_id, Purpose.RESTORE, cancel) as leased:
            chosen = self.choose_backup(leased.record, backup)
            record = leased.record
            if self.layout.volume(volume_id).exists():
                if record.generation and self._back_up(leased).partial:
                    raise NotBackedUp(
                        f"The files of {record.session!r} cannot be replaced: not all could be backed up; "
                        "restore to another place with --to."
                    )
                record = self._record(volume_id)
            record = self._bring_back(record, chosen, leased.cancel, progress)
        return self.observed(record)

    def restore_to(
        self,
        backup: BackupRecord,
        into: Path,
        *,
        cancel: threading.Event | None = None,
        progress: Progress = no_progress,
    ) -> None:
        """Bring a backup back into a directory that does not exist yet; no volume is touched."""
        self.vault.restore_to(backup, into, cancel or threading.Event(), progress)

    def choose_backup(self, record: Record, name: str | None = None) -> BackupRecord:
        """Return the backup of that name, or the newest whole one (`RestoreFailed` if there is none)."""
        backups = self.registry.backups(record.id)
        if name is None:
            newest = self.vault.newest(record)
            if newest is not None:
                return newest
            raise RestoreFailed(
                f"The volume of {record.session!r} has no backup to bring back; "
                "`jupyter volumes backups` lists those there are."
            )
        for backup in backups:
            if backup.name == name:
                return backup
        raise RestoreFailed(
            f"{name!r} is no backup of {record.session!r}; `jupyter volumes backups` lists those there are."
        )

    def _bring_back(
        self,
        record: Record,
        backup: BackupRecord,
        cancel: threading.Event,
        progress: Progress = no_progress,
    ) -> Record:
        """Restore aside, then put the files into place by one rename. The caller holds the lease.

        The staging directory comes before the place in the pool is taken: where a killed process left one, the next
        acquire or sweep knows that there was a restore under way, and gives the place back.
        """
        log.info("Bringing %r back from %s", record.session, backup.name)
        has_files = self.layout.volume(record.id).exists()
        aside = self.layout.staging / f"{record.id}.{secrets.token_hex(4)}"
        self._on_step("restore:aside")
        aside.mkdir(mode=0o700)
        try:
            self._on_step("restore:place")
            self._take_place(record, cancel)
            self.vault.restore_to(backup, aside / "files", cancel, progress)
            self._on_step("restore:count")
            if has_files or backup.generation != record.generation:
                # Before the swap: whatever lies there when this process is killed, no backup passes for it.
                record = self.registry.set_generation(
                    record.id, record.generation + 1, self.clock()
                )
            else:
                seal(aside / "files", self.settings.policy(record.kernelspec).exclude)
            self._on_step("restore:swap")
            self.trash.take(self.layout.volume(record.id), look=True)
            self._on_step("restore:rename")
            (aside / "files").rename(self.layout.volume(record.id))
            self._on_step("restore:renamed")
        except BaseException:
            self.trash.take(aside)
            if not self.layout.volume(record.id).exists() and self.registry.backups(record.id):
                self.registry.mark_pruned(record.id)
            raise
        finally:
            with contextlib.suppress(OSError):
                aside.rmdir()
        self._write_record(record)
        self.empty_trash_in_background()
        self._emit(Kind.RESTORED, record, backup=backup.name, bytes=backup.bytes)
        return self._record(record.id)
