"""Waits until files are on disk, so that a power cut cannot undo work that was reported as done."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path


def flush_tree(top: Path) -> None:
    """Wait until everything below a directory, and its own name, is on disk.

    On Linux one ``syncfs`` flushes the file system that holds it, which for 100,000 files is much
    faster than as many ``fsync``; elsewhere all file systems are flushed.

    Raises
    ------
    OSError
        If the disk reports an error.
    """
    if sys.platform != "linux":
        os.sync()
        return
    descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), os.fspath(top))
    finally:
        os.close(descriptor)
