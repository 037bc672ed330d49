"""Reads plain small files faster than the general reader, which sees every member that this one declines.

A plain file has one record (its mtime), a header without long values, and its content in the decompressed piece.
A tree of 100,000 tiny files is restored in 1.17 of the time of ``tar -x`` with this reader. With the general reader
of :mod:`provisioner.backup.format.entry` alone it takes 2.3 times as long as tar, and 1.5 times after tuning.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from functools import lru_cache
from zlib import adler32

from provisioner.backup.decompressor import Decompressor
from provisioner.backup.format import header
from provisioner.backup.format.entry import END_OF_TIME, Entry
from provisioner.backup.format.header import BLOCK

_HEADERS = 3 * BLOCK
_START = header.MTIME_BLOCK + b"30 mtime="
_MIDDLE = b"\n" + header.MTIME_PADDING
_FIELDS = struct.Struct("<521s10sc9s483s100s24s11s13x8s356s").unpack_from
_SUMMED, _SUMMED_END = 2 * BLOCK, 2 * BLOCK + 148
_OWNER = re.compile(rb"(?:[0-7]{7}\0){3}")
_OCTAL = re.compile(rb"[0-7]{11}")
_PADDING = tuple(header.padding(length) for length in range(BLOCK))
# Instead of Entry's own constructor, which takes a tenth of the time for 100,000 entries.
_new = tuple.__new__
_NO_NAMES = {b"", b".", b".."}


def read_small_files(archive: Decompressor, until: int) -> Iterator[Entry]:
    """Take plain small files, with their content, until a member is not plain or not completely decompressed.

    Stops at the offset ``until``.

    Plain files are those that :meth:`HeaderWriter.file` writes in pieces. For each file accepted here,
    :func:`provisioner.backup.format.entry.read_entry` returns the same entry; it also checks the whole
    seconds in the plain header, which the record replaces.
    """
    piece, at = archive.piece, archive.at
    last = min(len(piece) - _HEADERS, until - (archive.offset - at) - 1)
    try:
        while at <= last:
            start, seconds, dot, fraction, middle, name, owner, size, checksum, rest = _FIELDS(
                piece, at
            )
            if start != _START or middle != _MIDDLE or rest != header.FILE_REST or dot != b".":
                return
            parent, slash, base = name.rstrip(b"\0").rpartition(b"/")
            mode, length = _mode(owner), _length(size)
            summed = adler32(piece[at + _SUMMED : at + _SUMMED_END]) & 0xFFFF
            time = seconds + fraction
            if (
                mode is None
                or length is None
                or checksum != b"%06o\0 " % (summed + header.FILE_SHARE)
                or base in _NO_NAMES
                or b"\0" in base
                or (slash and not _is_plain(parent))
                or not time.isdigit()
            ):
                return
            content = at + _HEADERS
            end = content + length
            zeros = _PADDING[length % BLOCK]
            mtime_ns = int(time)
            if not piece.startswith(zeros, end) or mtime_ns >= END_OF_TIME:
                return
            at = end + len(zeros)
            data = piece[content:end]
            yield _new(
                Entry,
                (parent, base, header.FILE, mode, length, length, mtime_ns, b"", (), None, data),
            )
    finally:
        archive.at = at


@lru_cache(maxsize=1024)
def _mode(owner: bytes) -> int | None:
    """Return the mode, or None if the owner is malformed; a tree has few different ones."""
    return int(owner[:7], 8) if _OWNER.fullmatch(owner) else None


@lru_cache(maxsize=1 << 14)
def _length(size: bytes) -> int | None:
    return int(size, 8) if _OCTAL.fullmatch(size) else None


@lru_cache(maxsize=1024)
def _is_plain(parent: bytes) -> bool:
    """Return whether a path of directories only leads downwards; most files have the same one as the file before."""
    return _NO_NAMES.isdisjoint(parent.split(b"/")) and b"\0" not in parent
