"""Reads the headers of one member of an archive, which may be hostile.

Accepts only what :mod:`provisioner.backup.format.header` writes. Everything else that a tar may hold (device
nodes, absolute paths, other dialects) is refused.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from provisioner.backup.decompressor import Decompressor
from provisioner.backup.format import header
from provisioner.backup.format.header import BILLION, BLOCK, XATTR, block_sum
from provisioner.backup.format.manifest import printable
from provisioner.backup.format.trailer import damaged
from provisioner.backup.format.xattr import kept

_FIELDS = struct.Struct("<100s8s16x12s12s8sc100s8s247x")
_OCTAL = re.compile(rb"[0-7]+")
_MTIME = re.compile(rb"(-?)(\d{1,18})(?:\.(\d{9}))?")
_DECIMAL = re.compile(rb"\d{1,18}")
_RECORD = re.compile(rb"(\d{1,9}) ([^=\n]+)=")
_MAX_EXTENDED = 8 << 20
_MAX_PATH = 1 << 16
_MAX_NAME = 255
_MAX_TARGET = 4096
_SPARSE = b"GNU.sparse."


class Entry(NamedTuple):
    """A member. Not a dataclass: creating 100,000 frozen dataclasses takes half as long again.

    Parameters
    ----------
    parent, name
        Relative path of its directory, without ``.`` or ``..``, and its name there. Both are ``b""`` for the top
        directory itself.
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
    name, mode, size, mtime, kind, link = _fields(archive.take(BLOCK))
    if kind == header.EXTENDED:
        length = _octal(size)
        if length > _MAX_EXTENDED:
            raise damaged("an extended header is too long")
        records = _parse_records(archive.take(length))
        archive.skip_padding(length)
        name, mode, size, mtime, kind, link = _fields(archive.take(BLOCK))
    stored, mtime_ns = _octal(size), _octal(mtime) * BILLION
    if b"mtime" in records:
        mtime_ns = _mtime(records.pop(b"mtime"))
    if b"size" in records:
        stored = _decimal(records.pop(b"size"))
    path = records.pop(b"path", name.rstrip(b"\0"))
    target = records.pop(b"linkpath", link.rstrip(b"\0"))
    real, extents = stored, None
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    if records:
        records.pop(b"uid", None)  # the restored files belong to the user who restores
        records.pop(b"gid", None)
        xattrs = _take_xattrs(records)
    if records:
        path, real, extents = _take_sparse(records, archive, stored)
    parent, _, base = _checked_path(path, kind).rpartition(b"/")
    entry = Entry(parent, base, kind, _octal(mode), real, stored, mtime_ns, target, xattrs, extents)
    if kind != header.FILE:
        _check_kind(entry)
    return entry


def _fields(block: bytes) -> tuple[bytes, bytes, bytes, bytes, bytes, bytes]:
    name, mode, size, mtime, checksum, kind, link, magic = _FIELDS.unpack(block)
    # No header of ours has a sum beyond the limit of `block_sum`, so such a header is refused.
    found = block_sum(block) - block_sum(checksum) + 8 * 0x20
    if _octal(checksum[:6]) != found or magic != b"ustar\x0000":
        raise damaged("a header does not have its checksum")
    return name, mode, size, mtime, kind, link


def _octal(field: bytes) -> int:
    digits = field.rstrip(b"\0")
    if not _OCTAL.fullmatch(digits):
        raise damaged("a number in a header is none")
    return int(digits, 8)


def _decimal(text: bytes) -> int:
    if not _DECIMAL.fullmatch(text):
        raise damaged("a number in an extended header is none")
    return int(text)


def _mtime(text: bytes) -> int:
    match = _MTIME.fullmatch(text)
    if match is None:
        raise damaged("a time cannot be read")
    value = int(match[2]) * BILLION + int(match[3] or 0)
    return -value if match[1] else value


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
    keys = (b"major", b"minor", b"name", b"realsize")
    major, minor, path, realsize = (records.pop(_SPARSE + key, b"") for key in keys)
    if records or (major, minor) != (b"1", b"0"):
        raise damaged(f"an extended header holds {printable(min(records, default=_SPARSE))!r}")
    real = _decimal(realsize)
    extents, length = _read_map(archive)
    end = 0
    for offset, size in extents:
        if offset < end:
            raise damaged("the map of a sparse file is out of order")
        end = offset + size
    if end > real or length + sum(size for _, size in extents) != stored:
        raise damaged("the map of a sparse file does not fit its size")
    return path, real, extents


def _read_map(archive: Decompressor) -> tuple[tuple[tuple[int, int], ...], int]:
    """Return the extents in front of a sparse file's data, and how many bytes their list took."""
    data, found, wanted = bytearray(), 0, 1
    while found < wanted:
        if len(data) >= _MAX_EXTENDED:
            raise damaged("the map of a sparse file is too long")
        block = archive.take(BLOCK)
        data += block
        found += block.count(b"\n")
        if wanted == 1 and found:
            wanted += 2 * _decimal(bytes(data).split(b"\n", 1)[0])
    lines = bytes(data).split(b"\n")
    if lines[wanted:] != [bytes(len(lines[-1]))]:
        raise damaged("the map of a sparse file cannot be read")
    numbers = [_decimal(line) for line in lines[1:wanted]]
    return tuple(zip(numbers[::2], numbers[1::2], strict=True)), len(data)


def _checked_path(path: bytes, kind: bytes) -> bytes:
    if kind == header.DIRECTORY:
        if path == b"./":
            return b""
        if not path.endswith(b"/"):
            # The slash is never cut off: a longer path than the header's 100 bytes moves to a record.
            raise damaged(f"the directory {printable(path)!r} is not written as one")
        path = path[:-1]
    _check_path(path)
    return path


def _check_path(path: bytes) -> None:
    """Refuse a path that could lead out of the tree, or that no file system accepts."""
    names = path.split(b"/")
    if (
        not {b"", b".", b".."}.isdisjoint(names)
        or b"\0" in path
        or len(path) > _MAX_PATH
        or max(map(len, names)) > _MAX_NAME
    ):
        raise damaged(f"the path {printable(path)[:80]!r} leads out of the volume or is none")


def _check_kind(entry: Entry) -> None:
    kind, path = entry.kind, printable(entry.path)
    if kind not in {header.DIRECTORY, header.SYMLINK, header.HARDLINK}:
        raise damaged(f"{path!r} is of the tar kind {kind!r} (a device?), which no backup holds")
    if entry.stored or entry.extents is not None:
        raise damaged(f"{path!r} is no file and has content")
    if kind == header.HARDLINK:
        _check_path(entry.link)
    elif kind == header.SYMLINK and (not 0 < len(entry.link) < _MAX_TARGET or b"\0" in entry.link):
        raise damaged(f"the symbolic link {path!r} has no possible target")
