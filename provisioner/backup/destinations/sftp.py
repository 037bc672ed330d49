"""Makes fsspec's sftp, which uses paramiko, as fast as the connection to the server.

By default, each 32 KiB wait for the server's answer, and each answer is delayed by Nagle's algorithm together with
delayed acknowledgements: 40 ms each, even over loopback.
"""

from __future__ import annotations

import socket
from io import RawIOBase
from typing import Any

_WINDOW = 4 << 20


def hasten(files: Any) -> None:
    """Set TCP_NODELAY on the connection of an fsspec sftp file system; leave other file systems unchanged."""
    client: Any = getattr(files, "client", None)
    transport = client.get_transport() if hasattr(client, "get_transport") else None
    if transport is not None and isinstance(transport.sock, socket.socket):
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def hastened_for_writing(stream: Any) -> Any:
    """Let a paramiko file write without waiting for each answer; return other files unchanged.

    An error is then raised later, at the latest when the file is read back.
    """
    if hasattr(stream, "set_pipelined"):
        stream.set_pipelined(True)
    return stream


def hastened_for_reading(stream: Any) -> Any:
    """Let a paramiko file read in windows of many parallel requests; return other files unchanged."""
    return _Windows(stream) if hasattr(stream, "readv") else stream


class _Windows(RawIOBase):
    """Reads a file in windows: paramiko's own ``prefetch`` would load the whole file into memory."""

    def __init__(self, stream: Any) -> None:
        super().__init__()
        self._stream = stream
        stream.seek(0, 2)
        self._size: int = stream.tell()
        self._at = 0
        self._window = b""
        self._start = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        left = max(self._size - self._at, 0)
        size = left if size < 0 else min(size, left, _WINDOW)
        skipped = self._at - self._start
        if not 0 <= skipped < len(self._window):
            wanted = max(size, min(_WINDOW, left))
            self._window = b"".join(self._stream.readv([(self._at, wanted)])) if wanted else b""
            self._start, skipped = self._at, 0
        data = self._window[skipped : skipped + size]
        self._at += len(data)
        return data

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()
