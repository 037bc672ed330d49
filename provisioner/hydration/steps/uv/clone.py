"""Copies an environment: by hard links if one of the two soon goes, by reflinks if both stay.

A reflink (`FICLONE` on btrfs and XFS) is a separate file that shares its blocks until one of the two is written to:
as cheap as a link and as safe as a copy. A hard link is the same file under a second name: a write to one changes
the other. It is safe only for immutable files, which programs replace by a new file and never write to:

* modules and libraries in `site-packages`. pip and uv unlink what they replace (pip's `ZipBackedFile.save`; uv's
  own links into its cache rely on it). A person's editor may write in place all the same, so only files that have
  several links already are linked: uv linked them into its cache, and another link adds no risk.
* bytecode, which Python itself replaces by a rename (`importlib._bootstrap_external._write_atomic`).

Not immutable, and always copied: `pyvenv.cfg`, the scripts in `bin` (we correct them in a moved environment), our
records, `RECORD` and the rest of `*.dist-info` (installers write there), and `.pth` files (setuptools appends lines to
them).

Both functions raise Cancelled once `cancel` was set, and OSError if the source changes meanwhile or the target cannot
be written; the target is then incomplete.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from threading import Event

from provisioner.core.errors import Cancelled

_FICLONE = 0x40049409  # by which Linux lets two files share their blocks; ioctl_ficlone(2)


def link(source: Path, target: Path, cancel: Event) -> None:
    """Copy a tree by hard links within its volume, to change the copy and then delete the source.

    Both exist only for a moment, so all files may be linked, the user's too: installers replace files, and we replace
    our record. Where a link is impossible (another file system, too many links) the file is copied.
    """
    _copy_tree(str(source), str(target), cancel, _linked)


def clone(source: Path, target: Path, cancel: Event) -> None:
    """Copy a tree into another volume so that a change of one never appears in the other.

    By reflinks where the file system has them; elsewhere immutable files (see above) by hard links, the others by
    copying. Times are kept: bytecode is valid for a source of the same second.
    """
    root = len(str(source)) + 1

    def linked_or_copied(entry: os.DirEntry[str], there: str) -> None:
        if is_immutable(entry.path[root:], entry.stat().st_nlink):
            _linked(entry, there)
        else:
            shutil.copy2(entry.path, there)

    way = _reflinked if can_reflink(target.parent) else linked_or_copied
    _copy_tree(str(source), str(target), cancel, way)


def can_reflink(directory: Path) -> bool:
    """Whether files in a directory can share blocks; tried with two unnamed files."""
    if sys.platform == "darwin":
        return False  # APFS has `clonefile` instead, which uv uses by itself
    with tempfile.TemporaryFile(dir=directory) as one, tempfile.TemporaryFile(dir=directory) as two:
        one.write(b"\0" * 4096)
        one.flush()
        return _share_blocks(one.fileno(), two.fileno())


def is_immutable(path: str, links: int) -> bool:
    """Whether a file of an environment is only ever replaced and never written to, so that a hard link to it is safe.

    `links` is its number of names.
    """
    *folders, name = path.split(os.sep)
    if "site-packages" not in folders or any(f.endswith(".dist-info") for f in folders):
        return False
    return name.endswith(".pyc") or (links > 1 and not name.endswith(".pth"))


def _copy_tree(
    source: str, target: str, cancel: Event, copy: Callable[[os.DirEntry[str], str], None]
) -> None:
    if cancel.is_set():
        raise Cancelled("hydration was cancelled; start the kernel again to resume it")
    os.mkdir(target, 0o755)
    with os.scandir(source) as entries:
        for entry in entries:
            there = os.path.join(target, entry.name)
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), there)
            elif entry.is_dir():
                _copy_tree(entry.path, there, cancel, copy)
            elif entry.is_file():
                copy(entry, there)


def _linked(entry: os.DirEntry[str], target: str) -> None:
    try:
        os.link(entry.path, target)
    except OSError:
        shutil.copy2(entry.path, target)


def _reflinked(entry: os.DirEntry[str], target: str) -> None:
    with open(entry.path, "rb") as source, open(target, "xb") as copy:
        shared = _share_blocks(source.fileno(), copy.fileno())
    if shared:
        shutil.copystat(entry.path, target)
    else:
        shutil.copy2(entry.path, target)


def _share_blocks(source: int, copy: int) -> bool:
    try:
        fcntl.ioctl(copy, _FICLONE, source)
    except OSError:
        return False  # it may be a full disk: copying then fails with the reason
    return True
