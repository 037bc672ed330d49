"""The end of a backup file: a checksum of the bytes before it, and the manifest for fast lists.

It is a zstd *skippable frame* (RFC 8878, section 3.1.2), which every decompressor skips::

    magic 0x184D2A5E | length | JSON | SHA-256 of all three | length of the JSON | b"JVBACKUP"

The JSON holds the SHA-256 of all bytes before the frame. zstd's own checksum covers only the content: it does not
detect a flipped bit in an unused part of a frame header, or that whole frames were cut off.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from typing import BinaryIO

from provisioner.backup.format.manifest import FORMAT, Manifest
from provisioner.core.errors import BackupDamaged

_SKIPPABLE = 0x184D2A5E
_START = struct.Struct("<II")
_FOOT = struct.Struct("<32sI8s")
_MARK = b"JVBACKUP"
_MAX_JSON = 4 << 20


@dataclass(frozen=True)
class Trailer:
    """The content of a trailer.

    Parameters
    ----------
    sha256
        Hex digest of all bytes before the trailer.
    tar_bytes, manifest_at
        Length of the decompressed archive, and the offset of the manifest's header in it.
    """

    sha256: str
    tar_bytes: int
    manifest_at: int
    manifest: Manifest

    def to_frame(self) -> bytes:
        """Return the trailer as a skippable frame."""
        record = {
            "format": FORMAT,
            "sha256": self.sha256,
            "tar_bytes": self.tar_bytes,
            "manifest_at": self.manifest_at,
            "manifest": json.loads(self.manifest.to_json()),
        }
        text = json.dumps(record).encode()
        body = _START.pack(_SKIPPABLE, len(text) + _FOOT.size) + text
        return body + _FOOT.pack(hashlib.sha256(body).digest(), len(text), _MARK)


def read_trailer(stream: BinaryIO) -> tuple[Trailer, int]:
    """Read the trailer of a backup file, and nothing else; return it and its offset in the file.

    Raises
    ------
    BackupDamaged
        If the file does not end with a complete trailer.
    """
    size = stream.seek(0, 2)
    if size < _FOOT.size + _START.size:
        raise damaged("it is too short")
    foot = _read_at(stream, size - _FOOT.size, _FOOT.size)
    digest, length, mark = _FOOT.unpack(foot)
    start = size - _FOOT.size - length - _START.size
    if mark != _MARK or length > _MAX_JSON or start < 0:
        raise damaged("its end is missing")
    body = _read_at(stream, start, _START.size + length)
    if (
        _START.unpack_from(body) != (_SKIPPABLE, length + _FOOT.size)
        or hashlib.sha256(body).digest() != digest
    ):
        raise damaged("its end does not have the recorded checksum")
    return _parse(body[_START.size :]), start


def _parse(text: bytes) -> Trailer:
    try:
        record = json.loads(text)
        manifest = Manifest.from_record(record["manifest"])
        trailer = Trailer(record["sha256"], record["tar_bytes"], record["manifest_at"], manifest)
        if not 0 <= trailer.manifest_at < trailer.tar_bytes < 1 << 63:
            raise ValueError("numbers out of range")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise damaged(f"its summary cannot be read: {str(error)[:200]}") from None
    return trailer


def _read_at(stream: BinaryIO, offset: int, length: int) -> bytes:
    stream.seek(offset)
    data = b""
    while len(data) < length:
        piece = stream.read(length - len(data))
        if not piece:
            raise damaged("it became shorter while it was read")
        data += piece
    return data


def damaged(what: str) -> BackupDamaged:
    """Return the error that refuses a backup."""
    return BackupDamaged(f"the backup is damaged: {what}; use another backup")
