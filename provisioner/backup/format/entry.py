"""Reads the headers of one member of an archive, which may be hostile.

Accepts only what :mod:`provisioner.backup.format.header` writes. Everything else that a tar may hold (device
nodes, absolute paths, other dialects) is refused.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple
from zlib import adler32

from provisioner.backup.decompressor import Decompressor
from provisioner.backup.format import header
from provisioner.backup.format.header import BLOCK, XATTR
from provisioner.backup.format.manifest import printable
from provisioner.backup.format.trailer import damaged
from provisioner.backup.format.xattr import kept

_FIELDS = struct.Struct("<100s8s8s8s12s12s8sc100s8s247s")
_OCTAL = re.compile(rb"[0-7]+")
_MTIME = re.compile(rb"(-?)(\d{1,18})(?:\.(\d{9}))?")
_DECIMAL = re.compile(rb"\d{1,18}")
_RECORD = re.compile(rb"(\d{1,9}) ([^=\n]+)=")
_MAX_EXTENDED = 8 << 20
_MAX_PATH = 1 << 16
_MAX_NAME = 255
_MAX_TARGET = 4096
_BILLION = 1_000_000_000
END_OF_TIME = 1 << 63
"""Nanoseconds since the epoch that no file system can store."""
_SPARSE = b"GNU.sparse."
_OTHER_KINDS = {
    b"3": "a device node",
    b"4": "a device node",
    b"6": "a fifo",
    b"L": "a GNU long name",
    b"K": "a GNU long link",
    b"S": "an old GNU sparse file",
    b"g": "a global header",
}


class Entry(NamedTuple):
    """A member. Not a dataclass: creating 100,000 frozen dataclasses takes half as long again.

    Parameters
    ----------
    parent
        Relative path of its directory, without ``.`` or ``..``; ``b""`` is the top directory.
    name
        Its name in that directory; ``b""`` is the top directory itself.
    kind
        One of the kinds of :mod:`provisioner.backup.format.header`.
    mode
        Permission bits, including setuid and setgid.
    size
        Size of a file, including its holes; 0 for other kinds.
    stored
        Bytes that follow in the archive, including a sparse file's map, without padding.
    mtime_ns
        Nanoseconds since the epoch.
    link
        Target of a symbolic link, or path of the first name of a hard link.
    xattrs
        Names and values of extended attributes.
    extents
        Offsets and lengths of a sparse file's data; None for a file without holes.
    content
        Content of a small file that was read with its headers; None if it follows in the archive.
    """

    parent: bytes
    name: bytes
    kind: bytes
    mode: int
    size: int
    stored: int
    mtime_ns: int
    link: bytes
    xattrs: tuple[tuple[bytes, bytes], ...]
    extents: tuple[tuple[int, int], ...] | None
    content: bytes | None = None

    @property
    def path(self) -> bytes:
        """Relative path; ``b""`` is the top directory."""
        return self.parent + b"/" + self.name if self.parent else self.name


def read_entry(archive: Decompressor) -> Entry:
    """Read the next member's headers; its content follows.

    Raises
    ------
    BackupDamaged
        If it is no member that our writer makes.
    """
    records: dict[bytes, bytes] = {}
    block = archive.take(BLOCK)
    if block[156:157] == header.EXTENDED:
        length = _read_number(_fields(block)[4])
        if length > _MAX_EXTENDED:
            raise damaged("an extended header is too long")
        records = _parse_records(archive.take(length))
        archive.skip_padding(length)
        block = archive.take(BLOCK)
    name, mode, _, _, size, mtime, _, kind, link, _, _ = _fields(block)
    seconds = _read_number(mtime)
    path, target = name.rstrip(b"\0"), link.rstrip(b"\0")
    stored = _read_number(size)
    mtime_ns = _in_range(seconds * _BILLION)
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    extents = None
    if records:
        mtime_ns = _mtime(records.pop(b"mtime", None), mtime_ns)
        if records:
            path = records.pop(b"path", path)
            target = records.pop(b"linkpath", target)
            stored = _decimal(records.pop(b"size", None), stored)
            _decimal(records.pop(b"uid", None), 0)
            _decimal(records.pop(b"gid", None), 0)
            xattrs = _take_xattrs(records)
    real = stored
    if records:
        path, real, extents = _take_sparse(records, archive, stored)
    parent, _, base = _checked_path(path, kind).rpartition(b"/")
    entry = Entry(
        parent, base, kind, _read_number(mode), real, stored, mtime_ns, target, xattrs, extents
    )
    _check_kind(entry)
    return entry


def _fields(block: bytes) -> tuple[bytes, ...]:
    fields: tuple[bytes, ...] = _FIELDS.unpack(block)
    checksum = fields[6]
    # As in header.py. No header of ours has a sum beyond Adler's modulus, so such a header is refused.
    found = (adler32(block) - adler32(checksum) & 0xFFFF) + 8 * 0x20
    if _read_number(checksum[:6]) != found or fields[9] != b"ustar\x0000":
        raise damaged("a header does not have its checksum")
    return fields


def _read_number(field: bytes) -> int:
    digits = field.rstrip(b"\0")
    if not _OCTAL.fullmatch(digits):
        raise damaged("a number in a header is none")
    return int(digits, 8)


def _parse_records(data: bytes) -> dict[bytes, bytes]:
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        match = _RECORD.match(data, at)
        end = at + int(match[1]) if match else 0
        if match is None or not match.end() < end <= len(data) or data[end - 1 : end] != b"\n":
            raise damaged("an extended header cannot be read")
        if match[2] in records:
            raise damaged("an extended header contradicts itself")
        records[match[2]] = data[match.end() : end - 1]
        at = end
    return records


def _mtime(text: bytes | None, otherwise: int) -> int:
    if text is None:
        return otherwise
    match = _MTIME.fullmatch(text)
    if match is None:
        raise damaged("a time cannot be read")
    value = _in_range(int(match[2]) * _BILLION + int(match[3] or 0))
    return -value if match[1] else value


def _in_range(mtime_ns: int) -> int:
    if mtime_ns >= END_OF_TIME:
        raise damaged("a time is out of range")
    return mtime_ns


def _decimal(text: bytes | None, otherwise: int) -> int:
    if text is None:
        return otherwise
    if not _DECIMAL.fullmatch(text):
        raise damaged("a number in an extended header is none")
    return int(text)


def _take_xattrs(records: dict[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    names = [key for key in records if key.startswith(XATTR)]
    for key in names:
        name = key[len(XATTR) :]
        if not kept(name.decode("utf-8", "replace")) or b"\0" in name:
            raise damaged(f"it sets the attribute {printable(name)!r}")
    return tuple((key[len(XATTR) :], records.pop(key)) for key in names)


def _take_sparse(
    records: dict[bytes, bytes], archive: Decompressor, stored: int
) -> tuple[bytes, int, tuple[tuple[int, int], ...]]:
    keys = {_SPARSE + key for key in (b"major", b"minor", b"name", b"realsize")}
    if set(records) != keys or (records[_SPARSE + b"major"], records[_SPARSE + b"minor"]) != (
        b"1",
        b"0",
    ):
        raise damaged(f"an extended header holds {printable(min(records))!r}")
    real = _decimal(records[_SPARSE + b"realsize"], 0)
    numbers, length = _read_map(archive)
    extents = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    end = 0
    for offset, size in extents:
        if offset < end:
            raise damaged("the map of a sparse file is out of order")
        end = offset + size
    if end > real or length + sum(size for _, size in extents) != stored:
        raise damaged("the map of a sparse file does not fit its size")
    return records[_SPARSE + b"name"], real, extents


def _read_map(archive: Decompressor) -> tuple[list[int], int]:
    """Return the numbers in front of a sparse file's data, and how many bytes they took."""
    data = b""
    blocks = 0
    wanted = 1
    while data.count(b"\n") < wanted:
        blocks += 1
        if blocks * BLOCK > _MAX_EXTENDED:
            raise damaged("the map of a sparse file is too long")
        data += archive.take(BLOCK)
        if wanted == 1 and b"\n" in data:
            wanted += 2 * _decimal(data.split(b"\n", 1)[0], 0)
    lines = data.split(b"\n")
    if lines[wanted:] != [bytes(len(lines[-1]))]:
        raise damaged("the map of a sparse file cannot be read")
    return [_decimal(line, 0) for line in lines[1:wanted]], blocks * BLOCK


def _checked_path(path: bytes, kind: bytes) -> bytes:
    if kind == header.DIRECTORY:
        if path == b"./":
            return b""
        if not path.endswith(b"/"):
            # The slash is never cut off: a longer path than the header's 100 bytes moves to a record.
            raise damaged(f"the directory {printable(path)!r} is not written as one")
        path = path[:-1]
    check_path(path)
    return path


def check_path(path: bytes) -> None:
    """Refuse a path that could lead out of the tree.

    Raises
    ------
    BackupDamaged
        If it is empty, absolute, too long, holds a NUL or a name that is empty, ``.`` or ``..``.
    """
    if not 0 < len(path) <= _MAX_PATH or b"\0" in path:
        raise damaged(f"a path is empty, too long or holds a NUL: {printable(path)[:80]!r}")
    for name in path.split(b"/"):
        if name in {b"", b".", b".."} or len(name) > _MAX_NAME:
            raise damaged(f"the path {printable(path)[:80]!r} leads out of the volume or is none")


def _check_kind(entry: Entry) -> None:
    kind, path = entry.kind, printable(entry.path)
    if kind == header.FILE:
        if entry.link:
            raise damaged(f"the file {path!r} has a link target")
        return
    if kind not in {header.DIRECTORY, header.SYMLINK, header.HARDLINK}:
        what = _OTHER_KINDS.get(kind, "a member of unknown kind")
        raise damaged(f"{path!r} is {what}, which no backup holds")
    if entry.stored or entry.extents is not None:
        raise damaged(f"{path!r} is no file and has content")
    if kind == header.HARDLINK:
        check_path(entry.link)
    elif kind == header.SYMLINK:
        if not 0 < len(entry.link) < _MAX_TARGET or b"\0" in entry.link:
            raise damaged(f"the symbolic link {path!r} has no possible target")
    elif entry.link:
        raise damaged(f"the directory {path!r} has a link target")
