"""Removing directory trees that hooks and tools have left."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path


def remove_tree(path: Path) -> None:
    """Remove a file, a link, or a directory with all that is in it, read-only directories too.

    It is not atomic; what somebody may look for goes under another name first. What cannot be removed
    stays, without an error: the same name is met again at the next hydration.
    """
    if path.is_symlink() or not path.is_dir():
        with contextlib.suppress(OSError):
            path.unlink()
        return
    shutil.rmtree(path, onerror=_make_writable_and_retry)


def _make_writable_and_retry(remove: Callable[[str], object], name: str, _: object) -> None:
    """Copies from a Nix store are read-only directories, from which only root may remove."""
    with contextlib.suppress(OSError):
        for directory in (Path(name), Path(name).parent):
            if directory.is_dir() and not directory.is_symlink():
                directory.chmod(stat.S_IRWXU)
    with contextlib.suppress(OSError):
        if remove in {os.unlink, os.rmdir}:
            remove(name)
        else:  # the directory could not be listed
            shutil.rmtree(name, ignore_errors=True)
