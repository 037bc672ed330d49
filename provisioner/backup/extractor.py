"""Restores the files of a backup into a new directory."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from provisioner.backup.archive import Archive
from provisioner.backup.decompressor import Decompressor
from provisioner.backup.format import header
from provisioner.backup.format.entry import Entry
from provisioner.backup.format.manifest import Manifest, printable
from provisioner.backup.format.trailer import damaged
from provisioner.backup.format.xattr import set_xattr
from provisioner.core.errors import DiskFull, RestoreFailed
from provisioner.core.progress import Progress, no_progress
from provisioner.system.descent import Descent
from provisioner.system.removal import remove_tree

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = {errno.ENOSPC, errno.EDQUOT}
# The errors of a member whose directory or first name is missing, exists already, or is something else:
# the archive contradicts itself.
_CONTRADICTION = {errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.ELOOP, errno.EISDIR}


def extract(
    stream: BinaryIO,
    into: Path,
    *,
    cancel: threading.Event,
    progress: Progress = no_progress,
    on_step: Callable[[str], None] = lambda step: None,
) -> Manifest:
    """Restore a backup file into a directory that does not exist yet; return when it is on disk.

    Not atomic: do not use ``into`` before this returns, and delete it after a crash. On any error this deletes it.

    The files belong to the user who restores, whatever the backup says, and setuid and setgid bits of files are
    dropped: a backup must not give anybody another user's rights. (``tar --zstd -xpf`` as root restores both.)
    Directories keep setgid, which only decides the group of new files.

    Parameters
    ----------
    stream, cancel, progress
        As for :func:`archive.verify`: the backup is verified while it is read.
    into
        Created with mode 0700; its parent must exist.
    on_step
        Called with the name of each step after it.

    Raises
    ------
    BackupDamaged
        If the file holds anything that `write_archive` does not write.
    DiskFull
        If the file system has or had too little space.
    RestoreFailed
        If ``into`` exists, or a file cannot be created for another reason.
    """
    with Decompressor(stream, cancel, progress) as decompressor:
        archive, needed = Archive(decompressor), decompressor.trailer.tar_bytes
        try:
            into.mkdir(0o700)
        except OSError as error:
            if error.errno in _FULL:
                raise _explained(error, into, needed) from error
            raise RestoreFailed(
                f"cannot restore into {into}: {error.strerror}; choose a new directory that can be made"
            ) from error
        try:
            _check_room(into, needed, archive.manifest.entries)
            on_step("restore:created")
            _fill(into, archive, on_step)
            flush_tree(into)
            on_step("restore:flushed")
        except BaseException as error:
            remove_tree(into)
            if isinstance(error, OSError):
                raise _explained(error, into, needed) from error
            raise
        return archive.manifest


def flush_tree(top: Path) -> None:
    """Wait until everything below a directory, and its own name, is on disk.

    On Linux one ``syncfs`` flushes the file system that holds it, which for 100,000 files is much
    faster than as many ``fsync``; elsewhere all file systems are flushed.
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


def _check_room(into: Path, needed: int, entries: int) -> None:
    """Refuse files that do not fit into the file system; some file systems count neither bytes nor files."""
    state = os.statvfs(into)
    free = state.f_bavail * state.f_frsize
    if state.f_blocks and needed > free:
        raise DiskFull(
            f"{into.parent} has {free:,} bytes free and up to {needed:,} are needed;"
            " free some space and try again"
        )
    if state.f_files and entries > state.f_favail:
        raise DiskFull(
            f"{into.parent} can hold {state.f_favail:,} more files and {entries:,} are needed;"
            " delete some files and try again"
        )


def _fill(into: Path, archive: Archive, on_step: Callable[[str], None]) -> None:
    root = os.open(into, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with Descent(root) as parents, Descent(root) as first_names:
            extractor = _Extractor(archive, parents, first_names, on_step)
            for entry in archive.entries():
                try:
                    extractor.add(entry)
                except OSError as error:
                    if error.errno not in _CONTRADICTION:
                        raise
                    path = printable(entry.path)[:80]
                    raise damaged(f"{path!r} contradicts the members before it") from error
            extractor.close_directories(None)
    finally:
        os.close(root)


class _Extractor:
    """Creates members in the order of `write_archive`: a directory, its files, its subdirectories.

    Any other order is refused. A directory is therefore complete as soon as a member outside of it comes,
    and memory grows only with the depth of the tree.
    """

    def __init__(
        self,
        archive: Archive,
        parents: Descent,
        first_names: Descent,
        on_step: Callable[[str], None],
    ) -> None:
        self._archive = archive
        self._parents = parents
        self._first_names = first_names
        self._on_step = on_step
        self._open: list[Entry] = []
        self._parent_path = b""
        self._parent = parents.open(b"")
        self._default_mode = 0o666 & ~_umask()

    def add(self, entry: Entry) -> None:
        if entry.parent != self._parent_path:
            self.close_directories(entry.parent)
            self._parent = self._parents.open(entry.parent)
            self._parent_path = entry.parent
        if entry.kind == header.FILE:
            self._add_file(entry)
        elif entry.kind == header.DIRECTORY:
            if entry.name:
                os.mkdir(entry.name, 0o700, dir_fd=self._parent)
            self._open.append(entry)
            self._on_step("restore:directory")
        elif entry.kind == header.SYMLINK:
            os.symlink(entry.link, entry.name, dir_fd=self._parent)
            times = (entry.mtime_ns, entry.mtime_ns)
            os.utime(entry.name, ns=times, dir_fd=self._parent, follow_symlinks=False)
        else:
            self._add_hardlink(entry)

    def close_directories(self, until: bytes | None) -> None:
        """Set mode, attributes and times of every open directory that does not contain ``until``; None: of all.

        They come last: a member that is added changes its directory's time, and may not be permitted by its mode.
        """
        while self._open:
            path = self._open[-1].path
            if until is not None and (path in {b"", until} or until.startswith(path + b"/")):
                return
            entry, directory = self._open.pop(), self._parents.open(path)
            self._parent_path = path
            for key, value in entry.xattrs:
                set_xattr(directory, key, value)
            os.fchmod(directory, entry.mode & 0o3777)
            os.utime(directory, ns=(entry.mtime_ns, entry.mtime_ns))

    def _add_file(self, entry: Entry) -> None:
        _, name, _, mode, _, _, mtime, _, _, _, content = entry
        # Created with its final mode where the umask allows that, which saves a system call.
        created = mode & self._default_mode | 0o600
        file = os.open(name, _CREATE, created, dir_fd=self._parent)
        try:
            if content is None:
                self._write_content(file, entry)
            else:
                _write(file, content)
            if mode != created:
                os.fchmod(file, mode & 0o1777)
            os.utime(file, ns=(mtime, mtime))
        finally:
            os.close(file)

    def _write_content(self, file: int, entry: Entry) -> None:
        for offset, length in ((0, entry.size),) if entry.extents is None else entry.extents:
            os.lseek(file, offset, os.SEEK_SET)
            for piece in self._archive.content(length):
                _write(file, piece)
        os.ftruncate(file, entry.size)
        for key, value in entry.xattrs:
            set_xattr(file, key, value)

    def _add_hardlink(self, entry: Entry) -> None:
        first_parent, _, first = entry.link.rpartition(b"/")
        source = self._first_names.open(first_parent)
        if stat.S_ISDIR(os.stat(first, dir_fd=source, follow_symlinks=False).st_mode):
            raise damaged(f"{printable(entry.path)[:80]!r} is a hard link to a directory")
        os.link(
            first, entry.name, src_dir_fd=source, dst_dir_fd=self._parent, follow_symlinks=False
        )


def _write(file: int, data: bytes | memoryview) -> None:
    while data:
        data = data[os.write(file, data) :]


def _umask() -> int:
    """Return the process's umask without changing it for other threads; the strictest if it cannot be read."""
    with contextlib.suppress(OSError):
        found = re.search(
            r"^Umask:\s*([0-7]+)", Path("/proc/self/status").read_text(), re.MULTILINE
        )
        if found:
            return int(found[1], 8)
    return 0o777


def _explained(error: OSError, into: Path, needed: int) -> Exception:
    if error.errno in _FULL:
        return DiskFull(
            f"the disk became full while restoring into {into}; up to {needed:,} bytes were needed;"
            " nothing was left there; free some space and try again"
        )
    return RestoreFailed(
        f"cannot restore into {into}: {error.strerror or error};"
        " nothing was left there; check the permissions and the disk, then try again"
    )
