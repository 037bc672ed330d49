"""The members of a backup file, one by one, counted against its manifest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from provisioner.backup.decompressor import Decompressor, damaged
from provisioner.backup.format import header
from provisioner.backup.format.entry import Entry, read_entry
from provisioner.backup.format.manifest import MEMBER, Manifest, printable
from provisioner.backup.usual import usual_files


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
        self.manifest = decompressor.trailer.manifest

    def entries(self) -> Iterator[Entry]:
        """Hand out each member; content that it does not hold may be read before asking for the next.

        Raises
        ------
        BackupDamaged
            At the first thing that is not as a backup must be; at the latest after the last member,
            so that what was made of the members before must not be used until this ends.
        """
        count, most = _Count(), self.manifest
        archive, end = self._archive, self._archive.trailer.manifest_at
        first = read_entry(archive)
        if first.name:
            raise damaged("it does not begin with the volume's own directory")
        count.add(first)
        yield first
        while archive.offset < end:
            for entry in usual_files(archive, end):
                count.files += 1
                count.bytes += entry.size
                if count.files > most.files or count.bytes > most.bytes:
                    raise damaged("it holds more than its manifest says")
                yield entry
            if archive.offset < end:
                yield from self._unusual(count)
        if archive.offset != end or not count.equals(self.manifest):
            raise damaged("it does not hold what its manifest says")
        self._read_manifest()
        archive.finish()

    def _unusual(self, count: _Count) -> Iterator[Entry]:
        entry = read_entry(self._archive)
        if not entry.name:
            raise damaged("it has the volume's own directory twice")
        count.add(entry)
        if count.exceeds(self.manifest):
            raise damaged("it holds more than its manifest says")
        self._unread = length = _content_length(entry)
        yield entry
        for _ in self.content(self._unread):
            pass
        self._archive.skip_padding(length)

    def content(self, length: int) -> Iterator[bytes | memoryview]:
        """Read the next ``length`` bytes of the current member's content."""
        self._unread -= length
        return self._archive.pieces(length)

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
