"""Measures the space that a backup of a tree needs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from provisioner.backup.format.exclusion import Exclusions
from provisioner.backup.format.manifest import Tally
from provisioner.backup.tree import walk

_HEADERS = 1536


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
