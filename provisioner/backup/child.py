"""The process in which archives are made and checked at the lowest priority: `python -m provisioner.backup.child`.

One line of JSON on standard input says what is to be done; `apart` writes it. Lines of JSON on standard output tell
how far that is (`done`), and last what came of it (`result`) or what it failed with (`failed` or `errno`). Where
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
from provisioner.backup.manifest import About
from provisioner.backup.writer import write_archive
from provisioner.errors import VolumeError

_LOWEST = 19
_TELL_SECONDS = 0.1
"""How often it is told how far the work is: each line wakes the one who asked, who has other things to do."""


def main() -> None:
    """Do what standard input asks for."""
    # Ctrl-C in a server's terminal is the server's to answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.nice(_LOWEST)
    request: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    work = {"write": _write, "verify": _verify}[request["do"]]
    progress = _Progress()
    try:
        result = work(request, progress)
    except VolumeError as error:
        _tell(failed=type(error).__name__, message=str(error))
    except OSError as error:
        _tell(errno=error.errno, strerror=error.strerror, file=_text(error.filename))
    else:
        progress.tell()
        _tell(result=result)


def _write(request: dict[str, Any], progress: _Progress) -> dict[str, Any]:
    about = request["about"]
    with open(request["into"], "wb") as stream:
        written = write_archive(
            Path(request["source"]),
            stream,
            About(**{**about, "created": datetime.fromisoformat(about["created"])}),
            exclude=request["exclude"],
            cancel=threading.Event(),
            progress=progress,
            threads=1,
        )
    return {
        "manifest": written.manifest.to_json(),
        "size": written.size,
        "sha256": written.sha256,
    }


def _verify(request: dict[str, Any], progress: _Progress) -> dict[str, Any]:
    with open(request["file"], "rb") as stream:
        manifest = verify(
            stream, cancel=threading.Event(), progress=lambda done, total: progress(done)
        )
    return {"manifest": manifest.to_json()}


class _Progress:
    """Tells how far the work is: at once when it has begun, then now and then."""

    def __init__(self) -> None:
        self._done = 0
        self._told = float("-inf")

    def __call__(self, done: int) -> None:
        self._done = done
        if time.monotonic() - self._told >= _TELL_SECONDS:
            self.tell()

    def tell(self) -> None:
        self._told = time.monotonic()
        _tell(done=self._done)


def _tell(**values: Any) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def _text(name: Any) -> str | None:
    return None if name is None else os.fsdecode(name)


if __name__ == "__main__":
    main()
