"""What a hook prints: reported line by line, logged, its last lines kept for a failure message; without logins."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections import deque
from collections.abc import Callable
from pathlib import Path

from provisioner.core.logins import without_logins

LOG_LIMIT = 1 << 20
"""Bytes that a log may grow to; its older half is deleted then."""

_TAIL_LINES = 30
_LINE_LIMIT = 2000  # bytes; a progress bar without line ends, or binary output, is cut at this size
_ADDRESS_LIMIT = 16 << 10  # bytes; what is longer is no address with a login
_LINE_END = re.compile(rb"\r\n|\n|\r")  # a carriage return redraws a progress bar
_ADDRESS_BEGUN = re.compile(rb":(?:/(?:/\S*)?)?\Z")
_SPACE = re.compile(rb"\s")
_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")


class Output:
    """Collects the output of one hook.

    It appends to the file `log`, which it makes private (0600) and keeps near or below `LOG_LIMIT`, and calls `report`
    with each line, without terminal escapes and without logins in addresses.
    """

    def __init__(self, log: Path, report: Callable[[str], None]) -> None:
        self._log = _Log(log)
        self._report = report
        self._rest = b""
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)

    def announce(self, line: str) -> None:
        """Write the command that is run to the log only."""
        self._log.append(f"{without_logins(line)}\n".encode(errors="replace"))

    def feed(self, data: bytes) -> None:
        """Take output as it was read, in pieces of any size."""
        *lines, self._rest = _LINE_END.split(self._rest + data)
        while cut := _cut(self._rest):
            lines.append(self._rest[:cut])
            self._rest = self._rest[cut:]
        self._take(lines)

    def close(self) -> None:
        """Report a last line without a line end, and close the log."""
        if self._rest:
            self._take([self._rest])
        self._rest = b""
        self._log.close()

    @property
    def tail(self) -> str:
        """The last lines."""
        return "\n".join(self._tail)

    def _take(self, lines: list[bytes]) -> None:
        texts = (_ESCAPE.sub("", line.decode(errors="replace")) for line in lines)
        readable = [without_logins(text) for text in texts]
        self._log.append("".join(f"{line}\n" for line in readable).encode())
        for line in readable:
            if shown := line[:_LINE_LIMIT].rstrip():
                self._tail.append(shown)
                self._report(shown)


def _cut(line: bytes) -> int:
    """Return where to cut an unfinished line, 0 for nowhere: half a login would not be recognised as one."""
    if len(line) <= _LINE_LIMIT:
        return 0
    address = _ADDRESS_BEGUN.search(line, 0, _LINE_LIMIT)
    if address is None:
        return _LINE_LIMIT
    if address.start():
        return address.start()
    if end := _SPACE.search(line):
        return end.start()
    return 0 if len(line) < _ADDRESS_LIMIT else _LINE_LIMIT


class _Log:
    """A file that keeps the end of what is appended to it."""

    def __init__(self, path: Path) -> None:
        self._file = _open_private(path)
        self._size = os.fstat(self._file).st_size

    def append(self, data: bytes) -> None:
        if self._size + len(data) > LOG_LIMIT:
            self._shorten()
        # A full disk must not end a hydration that may be about to free it.
        with contextlib.suppress(OSError):
            self._size += os.write(self._file, data[-LOG_LIMIT:])

    def close(self) -> None:
        os.close(self._file)

    def _shorten(self) -> None:
        with contextlib.suppress(OSError):
            kept = os.pread(self._file, LOG_LIMIT // 2, max(0, self._size - LOG_LIMIT // 2))
            os.ftruncate(self._file, 0)
            self._size = os.write(self._file, kept.partition(b"\n")[2])


def _open_private(path: Path) -> int:
    """Open a file for appending; delete what is not a plain file (a link, a pipe) first."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    with contextlib.suppress(OSError):
        file = os.open(path, flags, 0o600)
        if stat.S_ISREG(os.fstat(file).st_mode):
            return file
        os.close(file)
    path.unlink(missing_ok=True)
    return os.open(path, flags | os.O_EXCL, 0o600)
