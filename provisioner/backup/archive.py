"""The members of a backup file, one by one, counted against its manifest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from provisioner.backup import header
from provisioner.backup.decompressor import Decompressor, damaged
from provisioner.backup.entry import Entry, read_entry
from provisioner.backup.manifest import MEMBER, Manifest, printable


@dataclass
class _Count:
    files: int = 0
    directories: int = 0
    symlinks: int = 0
    hardlinks: int = 0
    bytes: int = 0

    def add(self, entry: Entry) -> None:
        if entry.kind == header.FILE:
            self.files += 1
            self.bytes += entry.size
        elif entry.kind == header.DIRECTORY:
            self.directories += 1
        elif entry.kind == header.SYMLINK:
            self.symlinks += 1
        else:
            self.hardlinks += 1

    def exceeds(self, manifest: Manifest) -> bool:
        return (
            self.bytes > manifest.bytes
            or self.files > manifest.files
            or self.directories > manifest.directories
            or self.symlinks > manifest.symlinks
            or self.hardlinks > manifest.hardlinks
        )

    def equals(self, manifest: Manifest) -> bool:
        return (self.files, self.directories, self.symlinks, self.hardlinks, self.bytes) == (
            manifest.files,
            manifest.directories,
            manifest.symlinks,
            manifest.hardlinks,
            manifest.bytes,
        )


class Archive:
    """Reads a backup file once, front to back.

    No more members and bytes are ever handed out than the trailer declares, so whoever checks the
    declared numbers beforehand is safe from a file that unpacks to more than it says.

    Parameters
    ----------
    decompressor
        The open file; see :class:`Decompressor`.
    """

    def __init__(self, decompressor: Decompressor) -> None:
        self._archive = decompressor
        self._unread = 0
        self._padded = 0
        self.manifest = decompressor.trailer.manifest

    def entries(self) -> Iterator[Entry]:
        """Hand out each member; its content may be read before the next one is asked for.

        Raises
        ------
        BackupDamaged
            At the first thing that is not as a backup must be; at the latest after the last member,
            so that what was made of the members before must not be used until this ends.
        """
        count = _Count()
        first = True
        archive, end = self._archive, self._archive.trailer.manifest_at
        while archive.offset < end:
            entry = read_entry(archive)
            if entry.kind == header.FILE:
                count.files += 1
                count.bytes += entry.size
            else:
                count.add(entry)
            if count.exceeds(self.manifest):
                raise damaged("it holds more than its manifest says")
            if first != (not entry.path):
                raise damaged("it does not begin with the volume's own directory, or has it twice")
            first = False
            self._unread = self._padded = _content_length(entry)
            yield entry
            self._skip()
        if archive.offset != end or not count.equals(self.manifest):
            raise damaged("it does not hold what its manifest says")
        self._read_manifest()
        archive.finish()

    def content(self, length: int) -> Iterator[bytes | memoryview]:
        """Read the next ``length`` bytes of the current member's content."""
        self._unread -= length
        return self._archive.pieces(length)

    def content_at_once(self, length: int) -> bytes:
        """Read the next ``length`` bytes, few enough for memory, of the current member."""
        if length != self._unread:
            self._unread -= length
            return self._archive.take(length)
        zeros = header.padding(length)
        data = self._archive.take(length + len(zeros))
        if not data.endswith(zeros):
            raise damaged("there is something where nothing should be")
        self._unread = self._padded = 0
        return data[:length]

    def _skip(self) -> None:
        if self._unread:
            for _ in self.content(self._unread):
                pass
        if self._padded:
            self._archive.skip_padding(self._padded)

    def _read_manifest(self) -> None:
        entry = read_entry(self._archive)
        if entry.path != MEMBER or entry.kind != header.FILE or entry.size > 4 << 20:
            raise damaged(f"its last member is {printable(entry.path)!r}, not the manifest")
        text = self._archive.take(entry.size)
        self._archive.skip_padding(entry.size)
        if Manifest.from_json(text.decode("ascii", "replace")) != self.manifest:
            raise damaged("its two manifests contradict each other")
        if self._archive.take(len(header.END)) != header.END:
            raise damaged("the end of the archive is missing")


def _content_length(entry: Entry) -> int:
    """Bytes still to come; the map of a sparse file has been read with its headers."""
    if entry.extents is None:
        return entry.stored
    return sum(length for _, length in entry.extents)


def verify(
    stream: BinaryIO,
    *,
    cancel: threading.Event,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Manifest:
    """Read a backup file whole: checksum, every header, every byte, and the counts of its manifest.

    Memory is bounded, whatever the file holds.

    Parameters
    ----------
    stream
        The backup file, seekable.
    cancel
        Once set, stops well within a second.
    progress
        Called with the compressed bytes done and in all.

    Raises
    ------
    BackupDamaged
        If anything is not as it was written.
    Cancelled
        If ``cancel`` was set.
    """
    with Decompressor(stream, cancel, progress) as decompressor:
        archive = Archive(decompressor)
        for _ in archive.entries():
            pass
        return archive.manifest
