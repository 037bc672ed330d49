"""Reads the bytes of a backup file; a thread reads ahead, hashes and decompresses them."""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import BinaryIO, cast

import zstandard

from provisioner.backup.format.header import padding
from provisioner.backup.format.trailer import damaged, read_trailer
from provisioner.core.errors import Cancelled
from provisioner.core.progress import Progress

# Our frames need 2 MiB; a hostile frame that asks for more than this is refused.
_MAX_WINDOW = 8 << 20
# Large pieces: after each, the thread waits up to 5 ms for the interpreter lock.
_PIECE = 2 << 20
_READ = 4 << 20
_AHEAD = 4
_POLL_SECONDS = 0.1


class Decompressor:
    """Reads the tar archive in a backup file from start to end, in bounded memory.

    Used as a context manager: its exit stops the thread that reads ahead. The stream must be seekable, and nobody
    else may use it meanwhile. Once ``cancel`` is set, the next read raises :class:`Cancelled`. ``progress`` is called
    with the compressed bytes read so far and their total.

    Raises
    ------
    BackupDamaged
        If the file has no whole trailer.
    """

    def __init__(self, stream: BinaryIO, cancel: threading.Event, progress: Progress) -> None:
        self.trailer, self._length = read_trailer(stream)
        stream.seek(0)
        self._stream = stream
        self._progress = progress
        self._sha256 = hashlib.sha256()
        self._read = 0
        self._cancel = cancel
        self._stop = threading.Event()
        self._pieces: queue.Queue[bytes | Exception] = queue.Queue(_AHEAD)
        self._thread = threading.Thread(target=self._read_ahead, name="backup-reader", daemon=True)
        #: The last decompressed piece, and how many bytes of it were taken.
        self.piece = b""
        self.at = 0
        self._before = 0

    def __enter__(self) -> Decompressor:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        while self._thread.is_alive():
            with contextlib.suppress(queue.Empty):  # the thread may wait for room
                self._pieces.get(timeout=_POLL_SECONDS)

    @property
    def offset(self) -> int:
        """Bytes of the archive taken so far."""
        return self._before + self.at

    def take(self, length: int) -> bytes:
        """Take exactly ``length`` bytes at once: for headers and other small data."""
        at = self.at
        data = self.piece[at : at + length]
        if len(data) == length:
            self.at = at + length
            return data
        return b"".join(self.pieces(length))

    def pieces(self, length: int) -> Iterator[bytes | memoryview]:
        """Take exactly ``length`` bytes, piece by piece."""
        while length:
            if self.at == len(self.piece):
                self._next()
            piece = memoryview(self.piece)[self.at : self.at + length]
            self.at += len(piece)
            length -= len(piece)
            yield piece

    def skip_padding(self, length: int) -> None:
        """Skip the zeros after a member of this length."""
        zeros = padding(length)
        if zeros and self.take(len(zeros)) != zeros:
            raise damaged("there is something where nothing should be")

    def finish(self) -> None:
        """Raise BackupDamaged unless the archive ends here and its checksum is the recorded one."""
        if self.offset != self.trailer.tar_bytes:
            raise damaged("it does not have the recorded length")
        if self._get():
            raise damaged("it goes on after its end")
        self._thread.join()
        if self._read != self._length or self._sha256.hexdigest() != self.trailer.sha256:
            raise damaged("it does not have the recorded checksum")

    def _next(self) -> None:
        piece = self._get()
        if not piece:
            raise damaged("it ends too early")
        self._before += len(self.piece)
        self.piece, self.at = piece, 0
        if self._before + len(piece) > self.trailer.tar_bytes:
            raise damaged("it is longer than recorded")

    def _get(self) -> bytes:
        while True:
            if self._cancel.is_set():
                raise Cancelled("reading the backup was cancelled; nothing was changed")
            try:
                piece = self._pieces.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if isinstance(piece, Exception):
                raise piece
            return piece

    def _read_ahead(self) -> None:
        context = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        source = cast("BinaryIO", SimpleNamespace(read=self._read_hashed))
        # Across frames: bytes after the one frame then fail, either as a frame or as surplus content.
        reader = context.stream_reader(source, read_size=_READ, read_across_frames=True)
        try:
            piece = None
            while piece != b"" and not self._stop.is_set():
                piece = reader.read(_PIECE)
                self._pieces.put(piece)
        except zstandard.ZstdError as error:
            self._pieces.put(damaged(f"zstd says {str(error)[:120]}"))
        except Exception as error:  # noqa: BLE001 - `_get` raises it in the caller's thread
            self._pieces.put(error)

    def _read_hashed(self, size: int) -> bytes:
        data = self._stream.read(min(size, self._length - self._read))
        self._sha256.update(data)
        self._read += len(data)
        self._progress(self._read, self._length)
        return data
