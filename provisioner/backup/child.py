"""The process in which archives are made and checked at the lowest priority; `apart` starts it.

One line of JSON on standard input says what is to be done. Lines of JSON into the descriptor that it names (`tell`)
say how far that is (`done`), and last what came of it (`result`) or what it failed with (`failed` or `errno`). Where
nobody listens any more the next line ends the process by SIGPIPE, so it outlives whoever asked by a moment at most.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from provisioner.backup.archive import verify
from provisioner.backup.format.manifest import About
from provisioner.backup.writer import write_archive
from provisioner.core.errors import VolumeError

_LOWEST = 19
_TELL_SECONDS = 0.1
"""How often it is told how far the work is: each line wakes the one who asked, who has other things to do."""


def main() -> None:
    """Do what standard input asks for."""
    # Ctrl-C in a server's terminal, or the end of its whole process group, is the server's to answer.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.nice(_LOWEST)
    line = sys.stdin.buffer.readline()
    if not line:  # whoever asks was killed before it had asked
        return
    request: dict[str, Any] = json.loads(line)
    work = {"write": _write, "verify": _verify}[request["do"]]
    listener = _Listener(request["tell"])
    try:
        result = work(request, listener)
    except VolumeError as error:
        listener.tell(failed=type(error).__name__, message=str(error))
    except OSError as error:
        listener.tell(errno=error.errno, strerror=error.strerror, file=_text(error.filename))
    else:
        listener.tell_progress()
        listener.tell(result=result)


def _write(request: dict[str, Any], listener: _Listener) -> dict[str, Any]:
    about = request["about"]
    with open(request["into"], "wb") as stream:
        written = write_archive(
            Path(request["source"]),
            stream,
            About(**{**about, "created": datetime.fromisoformat(about["created"])}),
            exclude=request["exclude"],
            cancel=threading.Event(),
            progress=listener.progress,
            threads=1,
        )
    return {
        "manifest": written.manifest.to_json(),
        "size": written.size,
        "sha256": written.sha256,
    }


def _verify(request: dict[str, Any], listener: _Listener) -> dict[str, Any]:
    with open(request["file"], "rb") as stream:
        manifest = verify(
            stream, cancel=threading.Event(), progress=lambda done, total: listener.progress(done)
        )
    return {"manifest": manifest.to_json()}


class _Listener:
    """Whoever asked. How far the work is, is told at once when it has begun, then now and then."""

    def __init__(self, descriptor: int) -> None:
        self._stream = open(descriptor, "wb", buffering=0)  # noqa: SIM115 - it ends with the process
        self._done = 0
        self._told = float("-inf")

    def progress(self, done: int) -> None:
        self._done = done
        if time.monotonic() - self._told >= _TELL_SECONDS:
            self.tell_progress()

    def tell_progress(self) -> None:
        self._told = time.monotonic()
        self.tell(done=self._done)

    def tell(self, **values: Any) -> None:
        line = memoryview(json.dumps(values).encode() + b"\n")
        while line:
            line = line[self._stream.write(line) or 0 :]


def _text(name: Any) -> str | None:
    return None if name is None else os.fsdecode(name)
