"""Disk space reserved under the root, freed when the disk is full so that the table can still be written.

Without it, people could not open a volume on a full disk to delete files: each acquire must be recorded, or a later
sweep would take an old backup for a current one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

SIZE = 2 * 1024 * 1024
"""Bytes reserved: room for some hundred transactions in the table's write-ahead log."""

_AMPLE = 16
"""The reserve is made when this many times its size is free."""


class Reserve:
    """The reserve of one root."""

    def __init__(self, root: Path) -> None:
        self._path = root / "reserve"

    def fill(self) -> bool:
        """Make the reserve if it is missing and the disk has ample space; return whether it exists."""
        try:
            if self._path.exists() and self._path.stat().st_size == SIZE:
                return True
            if shutil.disk_usage(self._path.parent).free < _AMPLE * SIZE:
                return False
            # Random bytes: a file system that compresses would reserve nothing for zeros.
            self._path.write_bytes(os.urandom(SIZE))
        except OSError:
            self.spend()
            return False
        return True

    def spend(self) -> bool:
        """Free the reserved space; return whether there was any."""
        with contextlib.suppress(OSError):
            self._path.unlink()
            return True
        return False
