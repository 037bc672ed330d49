"""What is done with a backup: estimate its size, write, verify and restore it, read its summary."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from provisioner.backup.archive import verify
from provisioner.backup.destinations.destination import Destination
from provisioner.backup.extractor import extract
from provisioner.backup.format.exclusion import Exclusions
from provisioner.backup.format.manifest import About, Manifest, Tally
from provisioner.backup.format.name import BackupName
from provisioner.backup.format.trailer import read_trailer
from provisioner.backup.tree import walk
from provisioner.backup.writer import Written, write_archive
from provisioner.core.errors import BackupDamaged, BackupFailed, DiskFull
from provisioner.core.progress import Progress, no_progress

_HEADERS = 1536


def write_backup(
    source: Path,
    destination: Destination,
    about: About,
    *,
    exclude: tuple[str, ...] = (),
    cancel: threading.Event,
    progress: Progress = no_progress,
    on_step: Callable[[str], None] = lambda step: None,
) -> Written:
    """Back up the tree below ``source``; the backup's name is ``about.name``.

    Atomic: the final name is given only to a complete backup that was read back. Cancelling takes well within a
    second and leaves nothing behind. The parameters are those of :func:`writer.write_archive`.

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

    def write(stream: BinaryIO) -> Written:
        return write_archive(
            source,
            stream,
            about,
            exclude=exclude,
            cancel=cancel,
            progress=progress,
            on_step=on_step,
        )

    if not source.is_dir():
        raise BackupFailed(f"there is no directory {source} to back up; check the volume's path")
    try:
        return destination.put(about.name, write, partial(verify, cancel=cancel), on_step=on_step)
    except DiskFull as error:
        needed, free = estimate(source, exclude), destination.free_bytes()
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
    BackupDamaged, BackupMissing, Cancelled
        As their names say; the message names the backup.
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
    BackupDamaged, BackupMissing, DiskFull, RestoreFailed, Cancelled
        As their names say. ``into`` does not exist after an error.
    """
    with _opened(destination, name) as (stream, _):
        return extract(stream, into, cancel=cancel, progress=progress, on_step=on_step)


def read_summary(destination: Destination, name: BackupName) -> Manifest:
    """Read a backup's manifest from the end of its file, for lists; nothing else is checked.

    Raises
    ------
    BackupDamaged, BackupMissing
        If the end of the file is damaged or of a backup with another name; if no backup has that name.
    """
    with _opened(destination, name) as (_, manifest):
        return manifest


def estimate(source: Path, exclude: Iterable[str] = ()) -> int:
    """Return how many bytes a backup of a tree needs at most: its data and headers without compression.

    Reads metadata only. A real environment compresses to about a third of this.

    Raises
    ------
    BackupFailed
        If ``source`` cannot be opened.
    """
    needed = 1 << 16
    for directory in walk(source, Exclusions(exclude), Tally()):
        needed += _HEADERS * (1 + len(directory.files) + len(directory.others))
        for name in directory.files:
            with contextlib.suppress(OSError):  # it has gone, and needs no space
                status = os.stat(name, dir_fd=directory.descriptor, follow_symlinks=False)
                needed += min(status.st_size, status.st_blocks * 512)
    # zstd stores what it cannot compress in blocks of 128 KiB with 3 bytes of header each.
    return needed + (needed >> 15)


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
