"""The backups stored at one destination: made, verified, found again, brought back.

The caller holds the volume's lease, except for methods that only read. The table is written last: a process killed
before that leaves a backup that does not count, never a row without its backup.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

from provisioner.backup.destinations.destination import Destination, Stored
from provisioner.backup.destinations.urls import destination_for
from provisioner.backup.format.manifest import About, Manifest
from provisioner.backup.format.name import BackupName
from provisioner.backup.operation import (
    estimate,
    read_summary,
    restore_backup,
    verify_backup,
    write_backup,
)
from provisioner.core.errors import (
    BackupDamaged,
    BackupMissing,
    DiskFull,
    RestoreFailed,
    VolumeError,
)
from provisioner.core.progress import Progress, no_progress
from provisioner.core.record import BackupRecord, Record, State
from provisioner.registry.registry import Registry
from provisioner.settings.log import log
from provisioner.system.layout import Layout


@dataclass(eq=False)
class StoredBackups:
    """The backups of one root's volumes at one destination, which is a directory or a URL."""

    _layout: Layout
    _registry: Registry
    _url: str
    _clock: Callable[[], datetime]
    _on_step: Callable[[str], None]

    @cached_property
    def destination(self) -> Destination:
        """Where new backups go."""
        return destination_for(self._url)

    def back_up(
        self,
        record: Record,
        exclude: tuple[str, ...],
        cancel: threading.Event,
        progress: Progress = no_progress,
    ) -> BackupRecord:
        """Make a backup of a volume, verified by reading it back; return it as it was entered into the table.

        Raises
        ------
        DiskFull
            Saying how much is needed; nothing is left behind.
        BackupFailed, Cancelled
            Nothing is left behind.
        """
        path = self._layout.volume(record.id)
        self._require_space(path)
        now = self._clock()
        about = About(record.id, record.session, record.kernelspec, record.generation, now)
        self._on_step("backup:write")
        written = write_backup(
            path,
            self.destination,
            about,
            exclude=exclude,
            cancel=cancel,
            progress=progress,
            on_step=lambda step: self._on_step(f"backup:{step}"),
        )
        made = _entry(self._url, Stored(about.name, written.size), written.manifest, self._clock())
        self._on_step("backup:enter")
        self._registry.backups.add(made)
        self._on_step("backup:entered")
        return made

    def newest(self, record: Record) -> BackupRecord | None:
        """Return the backup of a volume that is whole and of the highest generation: clocks may have been set back."""
        backups = self._registry.backups.all(record.id)
        return max(
            backups,
            key=lambda b: (not b.partial, b.generation, b.verified is not None, b.created),
            default=None,
        )

    def has_current(self, record: Record) -> bool:
        """Whether the verified backup of a volume's present generation exists, with the size that it had.

        A backup that is not there counts no longer; its row stays, because its disk may only not be mounted.
        """
        if not record.is_backed_up:
            return False
        for backup in self._registry.backups.all(record.id):
            if backup.generation == record.generation and backup.verified and not backup.partial:
                try:
                    with self._destination_of(backup).open(_file_name(backup)) as stream:
                        if stream.seek(0, os.SEEK_END) in {None, backup.size}:
                            return True
                except BackupMissing:
                    pass
                log.warning("The backup %s is gone, or has another size than it had.", backup.name)
                self._registry.backups.set_verified(backup, None)
        return False

    def restore_to(
        self,
        backup: BackupRecord,
        into: Path,
        *,
        cancel: threading.Event | None = None,
        progress: Progress = no_progress,
    ) -> None:
        """Extract a backup, verified, into the directory `into`, which must not exist yet.

        Raises
        ------
        BackupDamaged
            Naming the backup and, if there is one, the next older backup and how to choose it.
        RestoreFailed, DiskFull, Cancelled
            Nothing is left behind.
        """
        self._on_step("restore:extract")
        if os.path.lexists(into):
            raise RestoreFailed(f"{into} exists already; name a directory that does not.")
        try:
            restore_backup(
                self._destination_of(backup),
                _file_name(backup),
                into,
                cancel=cancel or threading.Event(),
                progress=progress,
                on_step=lambda step: self._on_step(f"restore:{step}"),
            )
        except (BackupDamaged, BackupMissing) as error:
            raise type(error)(f"{str(error).rstrip('.')}. {self._advice(backup)}") from error

    def summary(self, backup: BackupRecord) -> Manifest:
        """Return the manifest of a backup; reads its end only."""
        return read_summary(self._destination_of(backup), _file_name(backup))

    def verify(
        self,
        backup: BackupRecord,
        *,
        cancel: threading.Event | None = None,
        progress: Progress = no_progress,
    ) -> None:
        """Read a backup whole and compare it with what was written; one that is not whole lets no volume be pruned.

        Raises
        ------
        BackupDamaged, BackupMissing
            Naming it. It stays in the table: a volume whose backup cannot be found must not come back empty.
        """
        destination, stop = self._destination_of(backup), cancel or threading.Event()
        try:
            verify_backup(destination, _file_name(backup), cancel=stop, progress=progress)
        except (BackupDamaged, BackupMissing):
            self._registry.backups.set_verified(backup, None)
            raise
        # A backup that was only found at the destination may be restored; a prune needs one that this root made.
        if backup.verified is not None:
            self._registry.backups.set_verified(backup, self._clock())

    def drop(self, backup: BackupRecord) -> None:
        """Delete a backup, its row first, so that the table never names a backup that is gone."""
        self._on_step("drop:forget")
        self._registry.backups.remove(backup)
        self._on_step("drop:delete")
        try:
            self._destination_of(backup).delete(_file_name(backup))
        except VolumeError:
            self._registry.backups.add(backup)  # it is still there, though out of reach
            raise

    def tidy(self, cancel: threading.Event) -> list[str]:
        """Delete what killed processes left at the destination; enter the whole backups that the table does not know.

        The process that made them was killed before it could enter them, or they belong to another root.

        Returns
        -------
        The names of the backups entered.
        """
        self.destination.sweep_partials(self._clock())
        return enter_all(self._registry, self._url, verified_until=cancel)

    def _destination_of(self, backup: BackupRecord) -> Destination:
        """Return where a backup lies: where the table says or, if it was moved along with the other backups, here."""
        named = destination_for(backup.destination)
        if str(named) == str(self.destination) or _is_at(named, backup):
            return named
        return self.destination if _is_at(self.destination, backup) else named

    def _require_space(self, path: Path) -> None:
        """Refuse before anything is written if not even a quarter of the files' size is free (zstd -3 needs ~26 %)."""
        free = self.destination.free_bytes()
        if free is not None and free < (needed := estimate(path) // 4):
            raise DiskFull(
                f"Backing up {path.name} needs about {needed:,} bytes at {self._url}, which has {free:,} free; "
                "free some space there or set VolumePool.backup_destination to another place."
            )

    def _advice(self, damaged: BackupRecord) -> str:
        older = [
            b
            for b in self._registry.backups.all(damaged.id)
            if b.name != damaged.name and b.generation <= damaged.generation and not b.partial
        ]
        if older:
            return (
                f"The next older one is of {older[0].created:%Y-%m-%d %H:%M:%S} UTC; to use it, run "
                f"`jupyter volumes restore SESSION --backup {older[0].name}`."
            )
        return (
            "There is no older backup; to start empty under this name, run "
            "`jupyter volumes prune SESSION --force --backups`."
        )


def _is_at(destination: Destination, backup: BackupRecord) -> bool:
    try:
        with destination.open(_file_name(backup)):
            return True
    except VolumeError:
        return False


def _entry(url: str, stored: Stored, manifest: Manifest, verified: datetime | None) -> BackupRecord:
    return BackupRecord(
        name=str(stored.name),
        destination=url,
        id=manifest.about.volume,
        generation=manifest.about.generation,
        created=manifest.about.created,
        size=stored.size,
        files=manifest.files,
        bytes=manifest.bytes,
        partial=manifest.partial,
        verified=verified,
    )


def enter_all(
    registry: Registry, url: str, *, verified_until: threading.Event | None = None
) -> list[str]:
    """Enter the backups at a destination that a table does not know, and the pruned volumes that only they know.

    They can be restored, and let no volume be pruned. Each is read whole first, until the event given is set; without
    one, only their manifests are read, which is quick.

    Returns
    -------
    The names of the backups entered.
    """
    destination = destination_for(url)
    known = {backup.name for backup in registry.backups.all()}
    entered = []
    for stored in reversed(destination.backups()):
        if verified_until is not None and str(stored.name) in known:
            continue
        try:
            if verified_until is None:
                manifest = read_summary(destination, stored.name)
            elif verified_until.is_set():
                break
            else:
                manifest = verify_backup(destination, stored.name, cancel=verified_until)
        except VolumeError as error:
            log.warning("%s", error)
            continue
        of = manifest.about
        registry.volumes.adopt(
            Record(of.volume, of.session, of.kernelspec, State.PRUNED, of.generation, of.created)
        )
        registry.backups.add(_entry(url, stored, manifest, None))
        entered.append(str(stored.name))
    return entered


def _file_name(backup: BackupRecord) -> BackupName:
    name = BackupName.parse(backup.name)
    if name is None:
        raise BackupDamaged(f"{backup.name!r} is no name of a backup; verify the others.")
    return name
