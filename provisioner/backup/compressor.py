"""Collects the bytes of an archive, compresses and hashes them, and writes them to a stream."""

from __future__ import annotations

import hashlib
import os
import threading
from typing import BinaryIO

import zstandard

from provisioner.core.errors import Cancelled
from provisioner.core.progress import Progress

_LEVEL = 3
_MOST_THREADS = 8
PIECE = 128 << 10
"""How many bytes are collected before they are compressed: few enough for a core's cache."""


class Compressor:
    """Takes the bytes of a tar archive and writes a ``.tar.zst``.

    zstd compresses in threads of its own, one for each core, at most eight. The window is that of level 3 (2 MiB), so
    that decompressing takes little memory. Once ``cancel`` is set, the next piece raises :class:`Cancelled`.
    ``progress`` is called after each piece with the bytes taken so far.
    """

    def __init__(self, stream: BinaryIO, cancel: threading.Event, progress: Progress) -> None:
        self._stream = stream
        self._cancel = cancel
        self._progress = progress
        # Each thread holds some 8 MB; a server in a container with little memory may see many cores.
        threads = min(os.cpu_count() or 1, _MOST_THREADS)
        self._context = zstandard.ZstdCompressor(level=_LEVEL, threads=threads, write_checksum=True)
        self._frame = self._context.compressobj()
        self._sha256 = hashlib.sha256()
        self._collected: list[bytes] = []
        self._waiting = 0
        self._taken = 0
        self.written = 0

    @property
    def offset(self) -> int:
        """Bytes of the archive taken so far."""
        return self._taken + self._waiting

    def add(self, *pieces: bytes) -> None:
        """Take bytes; they are compressed once `PIECE` bytes are collected."""
        self._collected += pieces
        self._waiting += sum(map(len, pieces))
        if self._waiting >= PIECE:
            self._flush()

    def add_now(self, data: bytes | memoryview) -> None:
        """Take a large piece without copying it; the caller may reuse its buffer afterwards."""
        self._flush()
        self._compress(data)

    def finish(self) -> str:
        """End the frame and return the SHA-256, in hex, of all written bytes."""
        self._flush()
        self._write(self._frame.flush())
        return self._sha256.hexdigest()

    def close(self) -> None:
        """End zstd's threads; do not use the compressor afterwards.

        The garbage collector might do it in a process that was forked meanwhile. That process would wait for ever
        for threads that only its parent has.
        """
        del self._frame, self._context

    def _flush(self) -> None:
        if self._collected:
            data = b"".join(self._collected)
            self._collected.clear()
            self._waiting = 0
            self._compress(data)

    def _compress(self, data: bytes | memoryview) -> None:
        if self._cancel.is_set():
            raise Cancelled(
                "the backup was cancelled because its volume is wanted; it is made later"
            )
        self._write(self._frame.compress(data))
        self._taken += len(data)
        self._progress(self._taken, None)

    def _write(self, data: bytes) -> None:
        if data:
            self._sha256.update(data)
            self._stream.write(data)
            self.written += len(data)
