"""Writes a directory tree as a backup file."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from provisioner import __version__
from provisioner.backup.compressor import PIECE, Compressor
from provisioner.backup.format import header
from provisioner.backup.format.exclusion import Exclusions
from provisioner.backup.format.header import Made
from provisioner.backup.format.manifest import MEMBER, About, Manifest, Tally
from provisioner.backup.format.trailer import Trailer
from provisioner.backup.format.xattr import pax_records
from provisioner.backup.tree import GONE, Directory, walk
from provisioner.core.progress import Progress, no_progress

# O_NONBLOCK: a fifo that replaces a file must not block the open.
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# A file with more extents is stored with its zeros: the list would cost more memory than it saves.
_MAX_EXTENTS = 100_000


@dataclass(frozen=True)
class Written:
    """A finished archive: what it contains, and the length of its file in bytes, including the trailer."""

    manifest: Manifest
    size: int


def write_archive(
    source: Path,
    stream: BinaryIO,
    about: About,
    *,
    exclude: Iterable[str] = (),
    cancel: threading.Event,
    progress: Progress = no_progress,
    on_step: Callable[[str], None] = lambda step: None,
) -> Written:
    """Write the tree below ``source`` to a stream, as a zstd-compressed tar with a trailer.

    Links stay links, holes stay holes, and further names of a file become hard links. Sockets, fifos and devices are
    skipped. A file that cannot be read, has gone, or changes while it is read makes the manifest partial; the
    archive is well-formed all the same.

    Parameters
    ----------
    exclude
        Globs of the files to leave out; see :class:`Exclusions`.
    cancel
        Once set, stops within the time of one piece.
    progress
        Called with the bytes of the archive (before compression) made so far.
    on_step
        Called with the name of each step after it.

    Raises
    ------
    BackupFailed
        If ``source`` cannot be opened.
    OSError
        If the stream cannot be written.
    """
    exclusions = Exclusions(exclude)
    manifest = Manifest(about=about, creator=f"jupyter-volumes {__version__}")
    with contextlib.closing(Compressor(stream, cancel, progress)) as archive:
        writer = _TreeWriter(archive, manifest)
        for directory in walk(source, exclusions, manifest):
            writer.add_directory(directory)
            on_step("backup:directory")
        manifest_at = archive.offset
        writer.add_manifest(manifest)
        on_step("backup:manifest")
        tar_bytes = archive.offset
        trailer = Trailer(archive.finish(), tar_bytes, manifest_at, manifest).to_frame()
        stream.write(trailer)
        return Written(manifest, archive.written + len(trailer))


class _TreeWriter:
    """Adds directories to an archive, each with its files and links, and counts them."""

    def __init__(self, archive: Compressor, tally: Tally) -> None:
        self._archive = archive
        self._tally = tally
        self._first_names: dict[tuple[int, int], bytes] = {}
        self._buffer = memoryview(bytearray(PIECE))

    def add_directory(self, directory: Directory) -> None:
        status, prefix, descriptor = directory.status, directory.prefix, directory.descriptor
        records = b"" if descriptor is None else pax_records(descriptor)
        self._archive.add(header.member(prefix or b"./", header.DIRECTORY, status, records=records))
        self._tally.directories += 1
        if descriptor is not None:
            for name in directory.files:
                self._add_file(descriptor, name, prefix + name)
            for name in directory.others:
                self._add_other(descriptor, name, prefix + name)

    def add_manifest(self, manifest: Manifest) -> None:
        text = manifest.to_json().encode()
        now = int(manifest.about.created.timestamp()) * 1_000_000_000
        status = Made(0o600, os.getuid(), os.getgid(), len(text), now)
        self._archive.add(header.member(MEMBER, header.FILE, status, len(text)))
        self._archive.add(text + header.padding(len(text)) + header.END)

    def _add_file(self, parent: int, name: bytes, path: bytes) -> None:
        try:
            file = os.open(name, _OPEN, dir_fd=parent)
        except OSError as error:
            self._note_unopened(path, error)
            return
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                self._tally.changed.add(path)
            elif status.st_nlink == 1 or not self._add_hardlink(path, status):
                self._add_content(file, path, status)
        finally:
            os.close(file)

    def _add_content(self, file: int, path: bytes, status: os.stat_result) -> None:
        size = status.st_size
        records = pax_records(file)
        if size >= PIECE or records or status.st_blocks * 512 < size:
            self._add_large(file, path, status, records)
        else:
            try:
                # One byte more than its size: a file that grows shows without a further system call.
                data = os.read(file, size + 1)
            except OSError:
                self._tally.unreadable.add(path)
                return
            if len(data) != size:
                self._tally.changed.add(path)
                data = data[:size].ljust(size, b"\0")
            self._archive.add(*header.small_file(path, status), data, header.padding(size))
        self._tally.files += 1
        self._tally.bytes += size
        if status.st_nlink > 1:
            self._first_names[status.st_dev, status.st_ino] = path

    def _add_large(self, file: int, path: bytes, status: os.stat_result, records: bytes) -> None:
        size = status.st_size
        extents = _extents(file, size) if status.st_blocks * 512 < size else None
        if extents is not None:
            self._archive.add(header.sparse(path, status, extents, records))
        else:
            extents = [(0, size)]
            self._archive.add(header.member(path, header.FILE, status, size, records=records))
        whole = True
        for offset, length in extents:
            whole = self._copy(file, path, offset, length) and whole
        self._archive.add(header.padding(sum(length for _, length in extents)))
        now = os.fstat(file)
        if not whole or (now.st_size, now.st_mtime_ns) != (size, status.st_mtime_ns):
            self._tally.changed.add(path)

    def _copy(self, file: int, path: bytes, offset: int, length: int) -> bool:
        """Copy one extent of a file; return False if it ended early. Missing bytes become zeros."""
        whole = True
        while length:
            try:
                got = os.preadv(file, [self._buffer[:length]], offset)
            except OSError:
                self._tally.unreadable.add(path)
                break
            if not got:
                whole = False
                break
            self._archive.add_now(self._buffer[:got])
            offset += got
            length -= got
        zeros = memoryview(bytes(PIECE))
        for at in range(0, length, PIECE):
            self._archive.add_now(zeros[: length - at])
        return whole

    def _add_other(self, parent: int, name: bytes, path: bytes) -> None:
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if not stat.S_ISLNK(status.st_mode):
                self._tally.skipped.add(path)
                return
            if status.st_nlink > 1 and self._add_hardlink(path, status):
                return
            target = os.readlink(name, dir_fd=parent)
        except OSError as error:
            self._note_unopened(path, error)
            return
        self._archive.add(header.member(path, header.SYMLINK, status, link=target))
        self._tally.symlinks += 1
        if status.st_nlink > 1:
            self._first_names[status.st_dev, status.st_ino] = path

    def _add_hardlink(self, path: bytes, status: os.stat_result) -> bool:
        """Add a further name of a file; return False if the archive does not have the file."""
        first = self._first_names.get((status.st_dev, status.st_ino))
        if first is None:
            return False
        self._archive.add(header.member(path, header.HARDLINK, status, link=first))
        self._tally.hardlinks += 1
        return True

    def _note_unopened(self, path: bytes, error: OSError) -> None:
        if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}:
            raise error
        note = self._tally.vanished if error.errno in GONE else self._tally.unreadable
        note.add(path)


def _extents(file: int, size: int) -> list[tuple[int, int]] | None:
    """Return where a file has data; None if it has no holes, or too many, or the file system cannot say."""
    if sys.platform == "darwin":  # APFS reports holes only at its own granularity, and late
        return None
    extents: list[tuple[int, int]] = []
    end = 0
    try:
        while end < size:
            start = os.lseek(file, end, os.SEEK_DATA)
            end = min(os.lseek(file, start, os.SEEK_HOLE), size)
            extents.append((start, end - start))
            if len(extents) > _MAX_EXTENTS:
                return None
    except OSError as error:
        if error.errno != errno.ENXIO:  # ENXIO: nothing but a hole from here to the end
            return None
    return None if extents == [(0, size)] else extents
