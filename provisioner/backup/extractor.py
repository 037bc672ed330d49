"""Restores the files of a backup into a new directory."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from provisioner.backup.archive import Archive
from provisioner.backup.decompressor import Decompressor
from provisioner.backup.flush import flush_tree
from provisioner.backup.format import header
from provisioner.backup.format.entry import Entry
from provisioner.backup.format.manifest import Manifest, printable
from provisioner.backup.format.trailer import damaged
from provisioner.backup.format.xattr import set_xattr
from provisioner.backup.space import check_room
from provisioner.core.errors import DiskFull, RestoreFailed
from provisioner.system.descent import Descent
from provisioner.system.removal import remove_tree

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = {errno.ENOSPC, errno.EDQUOT}
# The errors of a member whose directory or first name is missing, exists already, or is something else:
# the archive contradicts itself.
_CONTRADICTION = {
    errno.ENOENT,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.EISDIR,
    errno.ENAMETOOLONG,
}


def extract(
    stream: BinaryIO,
    into: Path,
    *,
    cancel: threading.Event,
    progress: Callable[[int, int], None] = lambda done, total: None,
    on_step: Callable[[str], None] = lambda step: None,
    durable: bool = True,
) -> Manifest:
    """Restore a backup file into a directory that does not exist yet.

    Not atomic: do not use ``into`` before this returns, and delete it after a crash. On any error this deletes it.

    The files belong to the user who restores, whatever the backup says, and setuid and setgid bits of files are
    dropped: a backup must not give anybody another user's rights. (``tar --zstd -xpf`` as root restores both.)
    Directories keep setgid, which only decides the group of new files.

    Parameters
    ----------
    stream
        The backup file, seekable. It is verified while it is read.
    into
        Created with mode 0700; its parent must exist.
    cancel
        Once set, stops well within a second.
    progress
        Called with the compressed bytes read so far and their total.
    on_step
        Called with the name of each step after it.
    durable
        Whether to wait until all files are on disk before returning.

    Raises
    ------
    BackupDamaged
        If the file holds anything that `write_archive` does not write.
    DiskFull
        If the file system has or had too little space.
    RestoreFailed
        If ``into`` exists, or a file cannot be created for another reason.
    Cancelled
        If ``cancel`` was set.
    """
    with Decompressor(stream, cancel, progress) as decompressor:
        archive = Archive(decompressor)
        check_room(into.parent, decompressor.trailer.tar_bytes, archive.manifest.entries)
        try:
            into.mkdir(0o700)
        except OSError as error:
            raise RestoreFailed(
                f"cannot restore into {into}: {error.strerror}; choose a new directory that can be made"
            ) from error
        try:
            on_step("restore:created")
            _fill(into, archive, on_step)
            if durable:
                flush_tree(into)
                on_step("restore:flushed")
        except OSError as error:
            remove_tree(into)
            raise _explained(error, into, decompressor.trailer.tar_bytes) from error
        except BaseException:
            remove_tree(into)
            raise
        return archive.manifest


def _fill(into: Path, archive: Archive, on_step: Callable[[str], None]) -> None:
    root = os.open(into, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with Descent(root) as parents, Descent(root) as first_names:
            extractor = _Extractor(archive, parents, first_names, on_step)
            for entry in archive.entries():
                try:
                    extractor.add(entry)
                except OSError as error:
                    if error.errno in _CONTRADICTION:
                        raise damaged(
                            f"{printable(entry.path)[:80]!r} contradicts the members before it"
                        ) from error
                    raise
            extractor.close_directories(b"")
            extractor.close_top()
    finally:
        os.close(root)


@dataclass(frozen=True)
class _Waiting:
    """A directory that gets its final mode and times when everything below it exists."""

    path: bytes
    entry: Entry


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
        self._open: list[_Waiting] = []
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
            self._open.append(_Waiting(entry.path, entry))
            self._on_step("restore:directory")
        elif entry.kind == header.SYMLINK:
            os.symlink(entry.link, entry.name, dir_fd=self._parent)
            times = (entry.mtime_ns, entry.mtime_ns)
            os.utime(entry.name, ns=times, dir_fd=self._parent, follow_symlinks=False)
        else:
            self._add_hardlink(entry)

    def close_directories(self, until: bytes) -> None:
        """Set mode, attributes and times of every open directory that does not contain ``until``."""
        while len(self._open) > 1:
            path = self._open[-1].path
            if until == path or until.startswith(path + b"/"):
                return
            _finish(self._parents.open(path), self._open.pop().entry)
            self._parent_path = path

    def close_top(self) -> None:
        """Set mode, attributes and times of the top directory, after everything else."""
        _finish(self._parents.open(b""), self._open.pop().entry)

    def _add_file(self, entry: Entry) -> None:
        _, name, _, mode, _, _, mtime, _, _, _, content = entry
        # Created with its final mode where the umask allows that, which saves a system call.
        created = mode & self._default_mode | 0o600
        file = os.open(name, _CREATE, created, dir_fd=self._parent)
        try:
            if content is None:
                self._write_content(file, entry)
            elif content and os.write(file, content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if mode != created:
                os.fchmod(file, mode & 0o1777)
            os.utime(file, ns=(mtime, mtime))
        finally:
            os.close(file)

    def _write_content(self, file: int, entry: Entry) -> None:
        if entry.extents is not None:
            self._write_sparse(file, entry)
        else:
            for piece in self._archive.content(entry.size):
                _write(file, piece)
        for key, value in entry.xattrs:
            set_xattr(file, key, value)

    def _write_sparse(self, file: int, entry: Entry) -> None:
        for offset, length in entry.extents or ():
            os.lseek(file, offset, os.SEEK_SET)
            for piece in self._archive.content(length):
                _write(file, piece)
        os.ftruncate(file, entry.size)

    def _add_hardlink(self, entry: Entry) -> None:
        first_parent, _, first = entry.link.rpartition(b"/")
        source = self._first_names.open(first_parent)
        if stat.S_ISDIR(os.stat(first, dir_fd=source, follow_symlinks=False).st_mode):
            raise damaged(f"{printable(entry.path)[:80]!r} is a hard link to a directory")
        os.link(
            first,
            entry.name,
            src_dir_fd=source,
            dst_dir_fd=self._parent,
            follow_symlinks=False,
        )


def _finish(directory: int, entry: Entry) -> None:
    for key, value in entry.xattrs:
        set_xattr(directory, key, value)
    os.fchmod(directory, entry.mode & 0o3777)
    os.utime(directory, ns=(entry.mtime_ns, entry.mtime_ns))


def _write(file: int, data: bytes | memoryview) -> None:
    written = os.write(file, data)
    while written < len(data):
        written += os.write(file, memoryview(data)[written:])


def _umask() -> int:
    """Return the process's umask without changing it for other threads; the strictest if it cannot be read."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        line = next(line for line in lines if line.startswith("Umask:"))
        return int(line.split()[1], 8)
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
