"""Restoring: files are extracted aside first, then put into place by one rename."""

from __future__ import annotations

import contextlib
import secrets
import threading
from dataclasses import dataclass

from provisioner.core.errors import NotBackedUp
from provisioner.core.event import Kind
from provisioner.core.progress import Progress, no_progress
from provisioner.core.record import BackupRecord, Record
from provisioner.pool import fingerprint
from provisioner.pool.backups import Backups
from provisioner.pool.capacity import Capacity
from provisioner.pool.catalog import Catalog
from provisioner.pool.files import Files
from provisioner.pool.leases import Leases
from provisioner.pool.root import Root
from provisioner.settings.log import log
from provisioner.system.lease import Purpose


@dataclass(eq=False)
class Restoring:
    """Brings volumes back from their backups."""

    _root: Root
    _leases: Leases
    _catalog: Catalog
    _files: Files
    _backups: Backups
    _capacity: Capacity

    def restore(
        self,
        volume_id: str,
        *,
        backup: str | None = None,
        cancel: threading.Event | None = None,
        progress: Progress = no_progress,
    ) -> Record:
        """Bring a volume back from its newest backup, or the one named; return its record.

        Files that lie on disk are backed up first and then replaced: a restore loses nothing.

        Raises
        ------
        RestoreFailed
            If there is no (such) backup.
        BackupDamaged
            Naming the damaged backup; nothing was changed.
        VolumeHeld, PoolFull, DiskFull, Cancelled
            Nothing was changed.
        """
        with self._leases.maintenance(volume_id, Purpose.RESTORE, cancel) as leased:
            record = leased.record
            chosen = self._backups.choose(record, backup)
            if self._root.layout.volume(volume_id).exists():
                if record.generation and self._backups.back_up_leased(leased).partial:
                    raise NotBackedUp(
                        f"The files of {record.session!r} cannot be replaced: not all could be backed up; "
                        "restore to another place with --to."
                    )
                record = self._leases.settled(volume_id)
            record = self.bring_back(record, chosen, leased.cancel, progress)
        return self._catalog.observed(record)

    def bring_back(
        self,
        record: Record,
        backup: BackupRecord,
        cancel: threading.Event,
        progress: Progress,
    ) -> Record:
        """Restore aside, then put the files into place by one rename. The caller holds the lease.

        The staging directory is made before the volume takes its slot: where a killed process left one, the next
        acquire or sweep knows that a restore was under way, and frees the slot.
        """
        log.info("Bringing %r back from %s", record.session, backup.name)
        step, layout = self._root.on_step, self._root.layout
        volumes = self._root.registry.volumes
        path = layout.volume(record.id)
        has_files = path.exists()
        aside = layout.staging / f"{record.id}.{secrets.token_hex(4)}"
        step("restore:aside")
        aside.mkdir(mode=0o700)
        try:
            step("restore:place")
            self._capacity.take_slot(record, cancel)
            self._backups.stored.restore_to(
                backup, aside / "files", cancel=cancel, progress=progress
            )
            step("restore:count")
            if has_files or backup.generation != record.generation:
                # Before the swap: whatever lies there when this process is killed, no backup passes for it.
                record = volumes.set_generation(
                    record.id, record.generation + 1, self._root.clock()
                )
            else:
                exclude = self._root.settings.policy(record.kernelspec).exclude
                fingerprint.take(aside / "files", exclude)
            step("restore:swap")
            self._files.trash.take(path, look=True)
            step("restore:rename")
            (aside / "files").rename(path)
            step("restore:renamed")
        except BaseException:
            self._files.trash.take(aside)
            if not path.exists() and self._backups.list(record.id):
                volumes.mark_pruned(record.id)
            raise
        finally:
            with contextlib.suppress(OSError):
                aside.rmdir()
        self._catalog.write_record(record)
        self._files.empty_trash_in_background()
        self._root.emit(Kind.RESTORED, record, backup=backup.name, bytes=backup.bytes)
        return self._leases.settled(record.id)
