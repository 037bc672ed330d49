"""A second tree of the same files: by links for a moment in one volume, by reflinks for good in another.

A reflink (`FICLONE` on btrfs and XFS) is a file of its own that shares its blocks until one of the two is
written to: as cheap as a link and as safe as a copy. A hard link is the same file under a second name: whoever
writes into the one writes into the other. It is right only for what is immutable, which is what everybody
replaces by a new file and nobody writes into:

* modules and libraries in `site-packages`. pip and uv unlink what they replace (pip's
  `ZipBackedFile.save`; uv's own links into its cache rely on it). A person's editor may write in place all the
  same, so they are linked only where they are links already: uv has made them links into its cache, and another
  link opens no door that was not open.
* bytecode, which Python itself replaces by a rename (`importlib._bootstrap_external._write_atomic`).

Not immutable, and always copied: `pyvenv.cfg`, the scripts in `bin` (we correct them in a moved environment), our
records, `RECORD` and the rest of `*.dist-info` (installers note there what they did), and `.pth` files (setuptools
appends lines to them).
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from threading import Event

from provisioner.core.errors import Cancelled

_FICLONE = 0x40049409
"""The request by which Linux lets two files share their blocks; ioctl_ficlone(2)."""

_NO_REFLINK = frozenset(
    {errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV, errno.ENOSYS, errno.EPERM}
)


def link(source: Path, target: Path, cancel: Event) -> None:
    """Link a tree aside in its own volume, to change one of the two while the other stays and then goes.

    For a moment both are there, so all but what has to be a file of its own may be linked, the user's files
    too: installers replace files, and we our record. Where a link is impossible (another file system, too
    many of them) the file is copied.

    Raises
    ------
    Cancelled
        `cancel` was set; the target is incomplete then.
    OSError
        The source changed meanwhile, or the target cannot be written.
    """
    _tree(str(source), str(target), cancel, _linked)


def clone(source: Path, target: Path, cancel: Event) -> None:
    """Copy a tree into another volume so that no change of the one is ever seen in the other.

    By reflinks where the file system has them; elsewhere what is immutable (see above) by hard links, and the
    rest by copying. Times are kept: bytecode is valid for a source of the same second.

    Raises
    ------
    Cancelled
        `cancel` was set; the target is incomplete then.
    OSError
        The source changed meanwhile, or the target cannot be written.
    """
    root = len(str(source)) + 1

    def linked_or_copied(entry: os.DirEntry[str], there: str) -> None:
        if is_immutable(entry.path[root:], entry.stat().st_nlink):
            _linked(entry, there)
        else:
            shutil.copy2(entry.path, there)

    way = _reflinked if can_reflink(target.parent) else linked_or_copied
    _tree(str(source), str(target), cancel, way)


def can_reflink(directory: Path) -> bool:
    """Whether files in a directory can share blocks; tried out with two nameless files."""
    if sys.platform == "darwin":
        return False  # APFS can (clonefile), and uv there makes clones itself
    with tempfile.TemporaryFile(dir=directory) as one, tempfile.TemporaryFile(dir=directory) as two:
        one.write(b"\0" * 4096)
        one.flush()
        return _share_blocks(one.fileno(), two.fileno())


def is_immutable(path: str, links: int) -> bool:
    """Whether a file of an environment is replaced and never written into, so that a hard link is safe.

    Parameters
    ----------
    path
        Its path in the environment.
    links
        How many names it has.
    """
    *folders, name = path.split(os.sep)
    if "site-packages" not in folders or any(f.endswith(".dist-info") for f in folders):
        return False
    return name.endswith(".pyc") or (links > 1 and not name.endswith(".pth"))


def _tree(
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
                _tree(entry.path, there, cancel, copy)
            elif entry.is_file():
                copy(entry, there)


def _linked(entry: os.DirEntry[str], target: str) -> None:
    try:
        os.link(entry.path, target)
    except OSError:
        shutil.copy2(entry.path, target)


def _reflinked(entry: os.DirEntry[str], target: str) -> None:
    status = entry.stat()
    source = os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        copy = os.open(target, flags, 0o600)
        try:
            shared = _share_blocks(source, copy)
            os.fchmod(copy, status.st_mode & 0o7777)
            os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(copy)
    finally:
        os.close(source)
    if not shared:
        shutil.copy2(entry.path, target)


def _share_blocks(source: int, copy: int) -> bool:
    import fcntl

    try:
        fcntl.ioctl(copy, _FICLONE, source)
    except OSError as error:
        if error.errno in _NO_REFLINK:
            return False
        raise
    return True
