"""Archives made and checked in a process apart, which leaves the machine to whoever else wants it.

For those who answer people meanwhile, such as a server. Its event loop shares neither the interpreter lock with such
a backup nor, where there are few, the cores: the process has the lowest priority. Its memory comes and goes with it.

No file is written and no lock is held over there: the archive comes through a pipe, and all that makes a backup safe
is done by the one who asked. So that process may be killed at any instant, and is, to cancel it: it may have waited
for a core for long.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import provisioner
from provisioner.backup.compressor import cancelled
from provisioner.backup.format.manifest import About, Manifest
from provisioner.backup.writer import Written
from provisioner.core import errors
from provisioner.core.errors import BackupFailed, VolumeError

_PIPE = 1 << 20
"""Bytes asked for a pipe's buffer: the more, the less often this process is woken up."""

_FIRST = 3
"""The lowest number for a descriptor that is lent: below are standard input and its kin, also where they are closed."""

_LOOK_SECONDS = 0.1
_DEATH_SECONDS = 0.5
"""How long a killed process is waited for; one that gets no core to die on is left to die alone."""

_START = """
import sys
package, *path = sys.argv[1:]
sys.path[:] = [entry for entry in sys.path if entry]
sys.path += [entry for entry in path if entry not in sys.path]
import importlib.util
spec = importlib.util.spec_from_file_location("provisioner", package)
sys.modules["provisioner"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["provisioner"])
from provisioner.backup.child import main
main()
"""
"""What the process begins with: this very package, and all else from where this process has it.

The standard library comes first. Neither `-m` nor a current directory would leave it there: where people work lie
files of any name, and beside this package may lie backports of what the library has by now.
"""


def write_archive_apart(
    source: Path,
    stream: BinaryIO,
    about: About,
    *,
    exclude: Iterable[str] = (),
    cancel: threading.Event,
    progress: Callable[[int], None],
) -> Written:
    """Write the tree below ``source`` to a stream; see :func:`writer.write_archive`.

    Progress is told a few times a second.

    Raises
    ------
    Cancelled
        If ``cancel`` was set; within a second, however busy the machine is.
    BackupFailed
        If ``source`` cannot be opened, or the other process cannot be started or was killed.
    OSError
        If the stream cannot be written.
    """
    request = {
        "do": "write",
        "source": os.fspath(source),
        "about": {**asdict(about), "created": about.created.isoformat()},
        "exclude": list(exclude),
    }
    with _startable():
        ours, theirs = _pipe()
    try:
        _widen(ours)
        try:
            child = _Child(request, {"into": theirs})
        finally:
            os.close(theirs)
        with child:
            result = child.follow(cancel, progress, {ours: stream.write})
    finally:
        os.close(ours)
    return Written(Manifest.from_json(result["manifest"]), result["size"], result["sha256"])


def verify_apart(stream: BinaryIO, *, cancel: threading.Event) -> Manifest:
    """Read a backup file whole; see :func:`archive.verify`.

    Parameters
    ----------
    stream
        The backup file; one that has a descriptor. It is left at any position.
    """
    with _startable():
        file = _duplicate(stream.fileno())
    try:
        child = _Child({"do": "verify"}, {"file": file})
    finally:
        os.close(file)
    with child:
        result = child.follow(cancel, lambda done: None)
    return Manifest.from_json(result["manifest"])


class _Child:
    """A process that does one thing; see `child`. At the end of the block it is gone.

    Parameters
    ----------
    request
        What is to be done.
    lent
        Descriptors that it is given, of the same numbers there as here; by the names the request has for them.
    """

    def __init__(self, request: Mapping[str, Any], lent: Mapping[str, int]) -> None:
        # Not standard output: whatever an interpreter is set up to load may write there.
        with _startable():
            self._hears, tells = _pipe()
            lent = {**lent, "tell": tells}
            try:
                self._process = _started(lent.values())
            except BaseException:
                os.close(self._hears)
                raise
            finally:
                os.close(tells)
        self._told = b""
        self._result: dict[str, Any] | None = None
        assert self._process.stdin is not None
        # A request is far smaller than a pipe, so this does not wait; a process that is gone says so below.
        with contextlib.suppress(BrokenPipeError), self._process.stdin as stdin:
            stdin.write(json.dumps({**request, **lent}).encode() + b"\n")

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._hears)
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_DEATH_SECONDS)

    def follow(
        self,
        cancel: threading.Event,
        progress: Callable[[int], None],
        takers: Mapping[int, Callable[[bytes], object]] | None = None,
    ) -> dict[str, Any]:
        """Wait for the result; hand on what comes through other pipes meanwhile.

        Raises
        ------
        VolumeError, OSError
            What the process failed with.
        """
        taking = {self._hears: lambda data: self._listen(data, progress), **(takers or {})}
        for taker, data in _arriving(taking, cancel, self._has_ended):
            taker(data)
        if self._result is None:
            raise self._silence()
        return self._result

    def _listen(self, data: bytes, progress: Callable[[int], None]) -> None:
        *lines, self._told = (self._told + data).split(b"\n")
        for line in lines:
            said = json.loads(line)
            if "done" in said:
                progress(said["done"])
            elif "result" in said:
                self._result = said["result"]
            else:
                raise _error(said)

    def _has_ended(self) -> bool:
        return self._process.poll() is not None

    def _silence(self) -> BackupFailed:
        code = self._process.wait()
        return BackupFailed(
            f"the process that worked on the backup ended half-way (exit code {code}); "
            "is memory short? It is tried again"
        )


@contextlib.contextmanager
def _startable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BackupFailed(
            f"no process could be started for the backup: {error.strerror}; try again later"
        ) from error


def _started(lent: Iterable[int]) -> subprocess.Popen[bytes]:
    path = [os.path.abspath(entry) for entry in sys.path if entry]
    return subprocess.Popen(
        [sys.executable, *_flags(), "-c", _START, provisioner.__file__, *path],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        pass_fds=tuple(lent),
    )


def _flags() -> list[str]:
    """Return the options that keep an interpreter from its environment and its user's packages, as this one is kept."""
    if sys.flags.isolated:
        return ["-I"]
    kept = {"-E": sys.flags.ignore_environment, "-s": sys.flags.no_user_site}
    return [option for option, is_set in kept.items() if is_set]


def _pipe() -> tuple[int, int]:
    """Return the ends of a new pipe, to read from and to write to; both may be lent."""
    ends: list[int] = []
    for end in os.pipe():
        ends.append(end if end >= _FIRST else _duplicate(end))
        if ends[-1] != end:
            os.close(end)
    return ends[0], ends[1]


def _duplicate(descriptor: int) -> int:
    """Return another descriptor of the same file, one that may be lent."""
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FIRST)


def _widen(pipe: int) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # more than this user may have: slower, not wrong
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)


def _arriving(
    taking: Mapping[int, Callable[[bytes], object]],
    cancel: threading.Event,
    has_ended: Callable[[], bool],
) -> Iterator[tuple[Callable[[bytes], object], bytes]]:
    """Yield what comes through pipes, each piece with who takes it, until all of them have ended.

    Or until the process has, and there is nothing left: a child forked from this process while the other was being
    started keeps the pipes open for as long as it lives.
    """
    with selectors.DefaultSelector() as selector:
        for descriptor, taker in taking.items():
            selector.register(descriptor, selectors.EVENT_READ, taker)
        while selector.get_map():
            if cancel.is_set():
                raise cancelled()
            is_last = has_ended()  # asked first: all that it has written is there then
            ready = selector.select(0 if is_last else _LOOK_SECONDS)
            if is_last and not ready:
                return
            for key, _ in ready:
                data = os.read(key.fd, _PIPE)
                if data:
                    yield key.data, data
                else:
                    selector.unregister(key.fd)


def _error(said: Mapping[str, Any]) -> Exception:
    if "errno" in said:
        return OSError(said["errno"], said["strerror"], said["file"])
    kind = getattr(errors, said["failed"], VolumeError)
    error: Exception = kind(said["message"])
    return error
