"""The four operations on a backup: write, verify, restore, and read its summary."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from provisioner.backup.archive import verify
from provisioner.backup.destinations.destination import Destination
from provisioner.backup.extractor import extract
from provisioner.backup.format.manifest import About, Manifest
from provisioner.backup.format.name import BackupName
from provisioner.backup.format.trailer import read_trailer
from provisioner.backup.space import estimate
from provisioner.backup.writer import Written, write_archive
from provisioner.core.errors import BackupDamaged, BackupFailed, DiskFull
from provisioner.core.progress import Progress, no_progress


@dataclass(frozen=True)
class Backup:
    """A backup that was just made.

    Parameters
    ----------
    name
        Its file name at the destination.
    size
        Length of the file in bytes.
    manifest
        What the backup contains.
    """

    name: BackupName
    size: int
    manifest: Manifest


def write_backup(
    source: Path,
    destination: Destination,
    about: About,
    *,
    exclude: Iterable[str] = (),
    cancel: threading.Event,
    progress: Progress = no_progress,
    on_step: Callable[[str], None] = lambda step: None,
) -> Backup:
    """Back up the tree below ``source``.

    Atomic: the final name is given only to a complete backup that was read back.

    Parameters
    ----------
    exclude
        Globs of the files to leave out; see :class:`Exclusions`.
    cancel
        Once set, stops well within a second and leaves nothing behind.
    progress
        Called with the bytes read so far, headers included.
    on_step
        Called with the name of each step after it.

    Raises
    ------
    BackupFailed
        If the source cannot be read at all or the destination cannot be written.
    BackupDamaged
        If the backup, read back and decompressed, is not what was written.
    DiskFull
        If the destination is full; nothing is left behind there.
    Cancelled
        If ``cancel`` was set.
    """
    name = BackupName(about.volume, about.created, about.generation)
    globs = tuple(exclude)

    def report(done: int) -> None:
        progress(done, None)

    def write(stream: BinaryIO) -> Written:
        return write_archive(
            source, stream, about, exclude=globs, cancel=cancel, progress=report, on_step=on_step
        )

    def check(stream: BinaryIO, written: Written) -> None:
        verify(stream, cancel=cancel)

    if not source.is_dir():
        raise BackupFailed(f"there is no directory {source} to back up; check the volume's path")
    try:
        written = destination.put(name, write, check, on_step=on_step)
    except DiskFull as error:
        raise DiskFull(_needed(source, globs, destination)) from error
    return Backup(name, written.size, written.manifest)


def verify_backup(
    destination: Destination,
    name: BackupName,
    *,
    cancel: threading.Event,
    progress: Progress = no_progress,
) -> Manifest:
    """Read a whole backup and check every byte of it; see :func:`archive.verify`.

    Raises
    ------
    BackupDamaged
        If anything differs from what was written; the message names the backup.
    BackupMissing
        If no backup has that name.
    Cancelled
        If ``cancel`` was set.
    """
    with destination.open(name) as stream:
        try:
            manifest = verify(stream, cancel=cancel, progress=progress)
        except BackupDamaged as error:
            raise BackupDamaged(f"{name}: {error}") from error
    return _matching(manifest, name)


def restore_backup(
    destination: Destination,
    name: BackupName,
    into: Path,
    *,
    cancel: threading.Event,
    progress: Progress = no_progress,
    on_step: Callable[[str], None] = lambda step: None,
    durable: bool = True,
) -> Manifest:
    """Restore a backup into a directory that does not exist yet; see :func:`extractor.extract`.

    Raises
    ------
    BackupDamaged
        If anything differs from what was written; the message names the backup.
    BackupMissing, DiskFull, RestoreFailed, Cancelled
        As their names say. ``into`` does not exist after an error.
    """
    with destination.open(name) as stream:
        try:
            _matching(read_trailer(stream)[0].manifest, name)
            return extract(
                stream, into, cancel=cancel, progress=progress, on_step=on_step, durable=durable
            )
        except BackupDamaged as error:
            raise BackupDamaged(f"{name}: {error}") from error


def read_summary(destination: Destination, name: BackupName) -> Manifest:
    """Read a backup's manifest from the end of its file, for lists; nothing else is checked.

    Raises
    ------
    BackupDamaged
        If the end of the file is damaged.
    BackupMissing
        If no backup has that name.
    """
    with destination.open(name) as stream:
        try:
            return read_trailer(stream)[0].manifest
        except BackupDamaged as error:
            raise BackupDamaged(f"{name}: {error}") from error


def _matching(manifest: Manifest, name: BackupName) -> Manifest:
    about = manifest.about
    if BackupName(about.volume, about.created, about.generation) != name:
        raise BackupDamaged(f"{name} holds another backup than its name says; use another backup")
    return manifest


def _needed(source: Path, exclude: Iterable[str], destination: Destination) -> str:
    needed, free = estimate(source, exclude), destination.free_bytes()
    has = "is full" if free is None else f"has {free:,} bytes free"
    return (
        f"{destination} {has} and this backup needs up to {needed:,} bytes; nothing was left there;"
        " free some space or set another backup_destination"
    )
