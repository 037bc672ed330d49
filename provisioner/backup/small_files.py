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

from provisioner.backup.decompressor import Decompressor
from provisioner.backup.format import header
from provisioner.backup.format.entry import Entry
from provisioner.backup.format.header import BLOCK, block_sum, padding

_HEADERS = 3 * BLOCK
_START = header.MTIME_BLOCK + b"30 mtime="
_MIDDLE = b"\n" + header.MTIME_PADDING
_FIELDS = struct.Struct("<521s10sc9s483s100s35s13x8s356s").unpack_from
_SUMMED, _SUMMED_END = 2 * BLOCK, 2 * BLOCK + 148
_NUMBERS = re.compile(rb"([0-7]{7})\0(?:[0-7]{7}\0){2}([0-7]{11})")
# Instead of Entry's own constructor, which takes a tenth of the time for 100,000 entries.
_new = tuple.__new__
_NO_NAMES = {b"", b".", b".."}


def read_small_files(archive: Decompressor, until: int) -> Iterator[Entry]:
    """Take plain small files, with their content, until a member is not plain or not completely decompressed.

    Stops at the offset ``until``. Plain files are those that :func:`header.small_file` writes in pieces. For each
    file accepted here, :func:`provisioner.backup.format.entry.read_entry` returns the same entry; it also checks the
    whole seconds in the plain header, which the record replaces.
    """
    piece, at = archive.piece, archive.at
    last = min(len(piece) - _HEADERS, until - (archive.offset - at) - 1)
    try:
        while at <= last:
            start, seconds, dot, fraction, middle, name, found, checksum, tail = _FIELDS(piece, at)
            if start != _START or middle != _MIDDLE or tail != header.FILE_TAIL or dot != b".":
                return
            parent, slash, base = name.rstrip(b"\0").rpartition(b"/")
            numbers = _numbers(found)
            summed = block_sum(piece[at + _SUMMED : at + _SUMMED_END])
            time = seconds + fraction
            if (
                numbers is None
                or checksum != b"%06o\0 " % (summed + header.FILE_SHARE)
                or base in _NO_NAMES
                or b"\0" in base
                or (slash and not _is_plain(parent))
                or not time.isdigit()
            ):
                return
            mode, length = numbers
            content = at + _HEADERS
            end = content + length
            zeros = padding(length)
            if not piece.startswith(zeros, end):
                return
            at = end + len(zeros)
            data = piece[content:end]
            yield _new(
                Entry,
                (parent, base, header.FILE, mode, length, length, int(time), b"", (), None, data),
            )
    finally:
        archive.at = at


@lru_cache(maxsize=1 << 14)
def _numbers(found: bytes) -> tuple[int, int] | None:
    """Return mode and size, or None if they or the owner are malformed; many files have the same ones."""
    match = _NUMBERS.fullmatch(found)
    return (int(match[1], 8), int(match[2], 8)) if match else None


@lru_cache(maxsize=1024)
def _is_plain(parent: bytes) -> bool:
    """Return whether a path of directories only leads downwards; most files have the same one as the file before."""
    return _NO_NAMES.isdisjoint(parent.split(b"/")) and b"\0" not in parent
