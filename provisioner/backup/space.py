"""Measures the free space of a file system and the space that a tree needs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from provisioner.backup.format.exclusion import Exclusions
from provisioner.backup.tally import Tally
from provisioner.backup.tree import walk
from provisioner.core.errors import DiskFull

_HEADERS = 1536


def free_bytes(directory: Path) -> int | None:
    """Return how many bytes this user may still write to the file system of a directory.

    None if the file system does not count them (ramfs and some network file systems).

    Raises
    ------
    OSError
        If the directory does not exist.
    """
    state = os.statvfs(directory)
    return state.f_bavail * state.f_frsize if state.f_blocks else None


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
            needed += _stored(name, directory.descriptor)
    # zstd stores what it cannot compress in blocks of 128 KiB with 3 bytes of header each.
    return needed + (needed >> 15)


def _stored(name: bytes, directory: int | None) -> int:
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:  # it has gone: the backup will count it, and it needs no space
        return 0
    return min(status.st_size, status.st_blocks * 512)


def check_room(directory: Path, needed: int, entries: int) -> None:
    """Check that files fit into the file system of a directory.

    Parameters
    ----------
    needed
        Bytes that will be written.
    entries
        Files and directories that will be created.

    Raises
    ------
    DiskFull
        If the file system has less free space or, where it counts them, fewer free inodes.
    """
    try:
        state = os.statvfs(directory)
    except OSError:  # the directory is missing: creating a file in it will fail and explain
        return
    free = state.f_bavail * state.f_frsize
    if state.f_blocks and needed > free:
        raise DiskFull(
            f"{directory} has {free:,} bytes free and up to {needed:,} are needed;"
            " free some space and try again"
        )
    if state.f_files and entries > state.f_favail:
        raise DiskFull(
            f"{directory} can hold {state.f_favail:,} more files and {entries:,} are needed;"
            " delete some files and try again"
        )
