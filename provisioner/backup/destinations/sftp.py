"""Makes fsspec's sftp, which uses paramiko, as fast as the connection to the server.

By default, each 32 KiB wait for the server's answer, and each answer is delayed by Nagle's algorithm together with
delayed acknowledgements: 40 ms each, even over loopback.
"""

from __future__ import annotations

import socket
from typing import Any


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
    """Let each read of a paramiko file make many parallel requests; return other files unchanged."""
    return _Parallel(stream) if hasattr(stream, "readv") else stream


class _Parallel:
    """Reads no more than is asked for: paramiko's own ``prefetch`` would load the whole file into memory."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.tell, self.close = stream.tell, stream.close

    def seek(self, offset: int, whence: int = 0) -> int:
        self._stream.seek(offset, whence)  # returns None, unlike other files
        return int(self.tell())

    def read(self, size: int) -> bytes:
        return b"".join(self._stream.readv([(self._stream.tell(), size)]))
