"""The way of an archive's bytes to disk: gathered, compressed, hashed, written."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import BinaryIO

import zstandard

from provisioner.core.errors import Cancelled

LEVEL = 3
PIECE = 128 << 10
"""Bytes gathered before they are compressed: small enough to stay in a core's cache."""


class Compressor:
    """Takes the bytes of a tar archive and writes a ``.tar.zst``.

    It compresses in the background (zstd's own threads), with the window of level 3 (2 MiB), so that
    reading it back takes little memory.

    Parameters
    ----------
    stream
        Where the compressed bytes go.
    cancel
        Once set, the next piece raises :class:`Cancelled`.
    progress
        Called after each piece with the bytes taken so far.
    threads
        How many threads compress; as many as there are cores by default.
    """

    def __init__(
        self,
        stream: BinaryIO,
        cancel: threading.Event,
        progress: Callable[[int], None],
        threads: int = -1,
    ) -> None:
        self._stream = stream
        self._cancel = cancel
        self._progress = progress
        self._context = zstandard.ZstdCompressor(level=LEVEL, threads=threads, write_checksum=True)
        self._frame = self._context.compressobj()
        self._sha256 = hashlib.sha256()
        self._gathered: list[bytes] = []
        self._waiting = 0
        self._taken = 0
        self.written = 0

    @property
    def offset(self) -> int:
        """Bytes of the archive taken so far."""
        return self._taken + self._waiting

    def add(self, *pieces: bytes) -> None:
        """Take bytes; they are compressed once there are enough of them."""
        self._gathered += pieces
        self._waiting += sum(map(len, pieces))
        if self._waiting >= PIECE:
            self.flush()

    def add_now(self, data: bytes | memoryview) -> None:
        """Take a large piece without copying it; the buffer may be used again afterwards."""
        self.flush()
        self._compress(data)

    def flush(self) -> None:
        """Compress what was gathered."""
        if self._gathered:
            data = b"".join(self._gathered)
            self._gathered.clear()
            self._waiting = 0
            self._compress(data)

    def finish(self) -> str:
        """End the frame and return the SHA-256, in hex, of all that was written."""
        self.flush()
        self._write(self._frame.flush())
        return self._sha256.hexdigest()

    def close(self) -> None:
        """End zstd's threads now; the compressor is not to be used any more.

        Left to the garbage collector, that may happen in a process forked meanwhile, which would wait for ever for
        threads that only its parent has.
        """
        del self._frame, self._context

    def _compress(self, data: bytes | memoryview) -> None:
        if self._cancel.is_set():
            raise cancelled()
        self._write(self._frame.compress(data))
        self._taken += len(data)
        self._progress(self._taken)

    def _write(self, data: bytes) -> None:
        if data:
            self._sha256.update(data)
            self._stream.write(data)
            self.written += len(data)


def cancelled() -> Cancelled:
    """Build the error that ends a backup which somebody cancelled."""
    return Cancelled("the backup was cancelled because its volume is wanted; it is made later")
