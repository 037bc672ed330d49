"""The four things done with a backup: write, verify, restore, look at."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from provisioner.backup.apart import verify_apart, write_archive_apart
from provisioner.backup.archive import verify
from provisioner.backup.compressor import cancelled
from provisioner.backup.destinations.destination import Destination
from provisioner.backup.extractor import extract
from provisioner.backup.format.manifest import About, Manifest
from provisioner.backup.format.name import BackupName
from provisioner.backup.format.trailer import read_trailer
from provisioner.backup.space import estimate
from provisioner.backup.writer import Written, write_archive
from provisioner.core.errors import BackupDamaged, BackupFailed, DiskFull
from provisioner.core.progress import Progress, no_progress

_PIECE = 1 << 20

_WORTH_A_PROCESS = 8 << 20
"""Bytes of a backup from which on it takes longer to check it than to start a process for that."""

_apart: ContextVar[bool] = ContextVar("apart", default=False)


@contextlib.contextmanager
def gently() -> Iterator[None]:
    """Let the backups that are written within leave the machine to others; see :mod:`apart`.

    For backups that nobody waits for, made by those who answer people meanwhile. On a machine with nothing
    else to do they take as long as any, and a moment more.
    """
    token = _apart.set(True)
    try:
        yield
    finally:
        _apart.reset(token)


@dataclass(frozen=True)
class Backup:
    """A backup that was just made.

    Parameters
    ----------
    name
        Under which it lies in its destination.
    size
        Length of the file in bytes.
    sha256
        Hex digest of every byte before its trailer.
    manifest
        What it holds.
    """

    name: BackupName
    size: int
    sha256: str
    manifest: Manifest


def write_backup(
    source: Path,
    destination: Destination,
    about: About,
    *,
    exclude: Iterable[str] = (),
    cancel: threading.Event,
    progress: Progress = no_progress,
    total: int | None = None,
    decode: bool = True,
    on_step: Callable[[str], None] = lambda step: None,
) -> Backup:
    """Back up the tree below ``source``.

    Atomic: under its final name there is a complete backup that was read back, or nothing.

    Parameters
    ----------
    exclude
        Globs of what is left out; see :class:`Exclusions`.
    cancel
        Once set, stops well within a second and leaves nothing.
    progress
        Called with the bytes read so far (headers included) and ``total``.
    total
        What the caller expects, such as the last backup's bytes.
    decode
        Whether reading back also decompresses and checks every member, as ``verify`` does, or only
        compares each byte with what was written.
    on_step
        Called with the name of each step after it; within :func:`gently`, with those of the destination only.

    Raises
    ------
    BackupFailed
        If the source cannot be read at all or the destination cannot be written.
    BackupDamaged
        If what was read back is not what was written.
    DiskFull
        If the destination is full; nothing is left there.
    Cancelled
        If ``cancel`` was set.
    """
    name = BackupName(about.volume, about.created, about.generation)
    globs = tuple(exclude)

    def tell(done: int) -> None:
        progress(done, total)

    def write(stream: BinaryIO) -> Written:
        if _apart.get():
            return write_archive_apart(
                source, stream, about, exclude=globs, cancel=cancel, progress=tell
            )
        return write_archive(
            source, stream, about, exclude=globs, cancel=cancel, progress=tell, on_step=on_step
        )

    def check(stream: BinaryIO, written: Written) -> None:
        if not decode:
            _check_bytes(stream, written, cancel)
        elif _apart.get() and written.size >= _WORTH_A_PROCESS and _is_local(stream):
            verify_apart(stream, cancel=cancel)
        else:
            verify(stream, cancel=cancel)

    if not source.is_dir():
        raise BackupFailed(f"there is no directory {source} to back up; check the volume's path")
    try:
        written = destination.put(name, write, check, on_step=on_step)
    except DiskFull as error:
        raise DiskFull(_needed(source, globs, destination)) from error
    return Backup(name, written.size, written.sha256, written.manifest)


def verify_backup(
    destination: Destination,
    name: BackupName,
    *,
    cancel: threading.Event,
    progress: Progress = no_progress,
) -> Manifest:
    """Read a backup whole and check every byte of it; see :func:`archive.verify`.

    Raises
    ------
    BackupDamaged
        If anything is not as it was written; the message names the backup.
    BackupMissing
        If there is none of that name.
    Cancelled
        If ``cancel`` was set.
    """
    with destination.open(name) as stream:
        try:
            manifest = verify(stream, cancel=cancel, progress=progress)
        except BackupDamaged as error:
            raise BackupDamaged(f"{name}: {error}") from error
    return _of_that_name(manifest, name)


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
        If anything is not as it was written; the message names the backup.
    BackupMissing, DiskFull, RestoreFailed, Cancelled
        As their names say. ``into`` does not exist after any error.
    """
    with destination.open(name) as stream:
        try:
            _of_that_name(read_trailer(stream)[0].manifest, name)
            return extract(
                stream, into, cancel=cancel, progress=progress, on_step=on_step, durable=durable
            )
        except BackupDamaged as error:
            raise BackupDamaged(f"{name}: {error}") from error


def read_summary(destination: Destination, name: BackupName) -> Manifest:
    """Read a backup's manifest from its end alone, for listings; nothing else is checked.

    Raises
    ------
    BackupDamaged
        If the end of the file is damaged.
    BackupMissing
        If there is none of that name.
    """
    with destination.open(name) as stream:
        try:
            return read_trailer(stream)[0].manifest
        except BackupDamaged as error:
            raise BackupDamaged(f"{name}: {error}") from error


def _check_bytes(stream: BinaryIO, written: Written, cancel: threading.Event) -> None:
    trailer, length = read_trailer(stream)
    stream.seek(0)
    sha256 = hashlib.sha256()
    while length:
        if cancel.is_set():
            raise cancelled()
        data = stream.read(min(length, _PIECE))
        if not data:
            break
        sha256.update(data)
        length -= len(data)
    if sha256.hexdigest() != written.sha256 or trailer.sha256 != written.sha256:
        raise BackupDamaged(
            "what was read back is not what was written; check the disk or the server, then try again"
        )


def _is_local(stream: BinaryIO) -> bool:
    """Whether another process of this machine can read it too."""
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, AttributeError):
        return False


def _of_that_name(manifest: Manifest, name: BackupName) -> Manifest:
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
