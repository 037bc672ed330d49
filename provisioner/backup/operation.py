"""The four operations on a backup: write, verify, restore, and read its summary."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
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


def write_backup(
    source: Path,
    destination: Destination,
    about: About,
    *,
    exclude: Iterable[str] = (),
    cancel: threading.Event,
    progress: Progress = no_progress,
    on_step: Callable[[str], None] = lambda step: None,
) -> Written:
    """Back up the tree below ``source``; the backup's name is ``about.name``.

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
    globs = tuple(exclude)

    def write(stream: BinaryIO) -> Written:
        return write_archive(
            source, stream, about, exclude=globs, cancel=cancel, progress=progress, on_step=on_step
        )

    if not source.is_dir():
        raise BackupFailed(f"there is no directory {source} to back up; check the volume's path")
    try:
        return destination.put(about.name, write, partial(verify, cancel=cancel), on_step=on_step)
    except DiskFull as error:
        needed, free = estimate(source, globs), destination.free_bytes()
        has = "is full" if free is None else f"has {free:,} bytes free"
        raise DiskFull(
            f"{destination} {has} and this backup needs up to {needed:,} bytes; nothing was left"
            " there; free some space or set another backup_destination"
        ) from error


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
    with _opened(destination, name) as (stream, _):
        return verify(stream, cancel=cancel, progress=progress)


def restore_backup(
    destination: Destination,
    name: BackupName,
    into: Path,
    *,
    cancel: threading.Event,
    progress: Progress = no_progress,
    on_step: Callable[[str], None] = lambda step: None,
) -> Manifest:
    """Restore a backup into a directory that does not exist yet; see :func:`extractor.extract`.

    Raises
    ------
    BackupDamaged
        If anything differs from what was written; the message names the backup.
    BackupMissing, DiskFull, RestoreFailed, Cancelled
        As their names say. ``into`` does not exist after an error.
    """
    with _opened(destination, name) as (stream, _):
        return extract(stream, into, cancel=cancel, progress=progress, on_step=on_step)


def read_summary(destination: Destination, name: BackupName) -> Manifest:
    """Read a backup's manifest from the end of its file, for lists; nothing else is checked.

    Raises
    ------
    BackupDamaged
        If the end of the file is damaged, or of a backup with another name.
    BackupMissing
        If no backup has that name.
    """
    with _opened(destination, name) as (_, manifest):
        return manifest


@contextlib.contextmanager
def _opened(destination: Destination, name: BackupName) -> Iterator[tuple[BinaryIO, Manifest]]:
    """Open a backup and read its summary; refusals of its content name it."""
    with destination.open(name) as stream:
        try:
            manifest = read_trailer(stream)[0].manifest
            if manifest.about.name != name:
                raise BackupDamaged(
                    "it holds another backup than its name says; use another backup"
                )
            yield stream, manifest
        except BackupDamaged as error:
            raise BackupDamaged(f"{name}: {error}") from error
