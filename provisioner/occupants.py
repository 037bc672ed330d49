"""Who lives in a volume: the processes that a kernel left behind.

A kernel's children outlive it when they were put in the background. Most of them do not inherit the lease (Python's
`subprocess` closes descriptors), but all inherit the environment, which names their volume.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .session import VOLUME_VARIABLE

if TYPE_CHECKING:
    import psutil

_PROC = Path("/proc")


def occupants(volume: Path) -> list[psutil.Process]:
    """Return the processes, other than this one, whose environment says that they live in `volume`.

    Processes of other users cannot be read and are passed over; a root belongs to one user.
    """
    import psutil

    found = []
    for pid in _linux_pids(volume) if (_PROC / "self" / "environ").exists() else _pids(volume):
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _linux_pids(volume: Path) -> Iterator[int]:
    """Look through /proc by hand: every shutdown of a kernel waits for this, and psutil took 20 times as long."""
    wanted = f"\0{VOLUME_VARIABLE}={volume}\0".encode(errors="surrogateescape")
    for name in os.listdir(_PROC):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError):
                if wanted in b"\0" + (_PROC / name / "environ").read_bytes() + b"\0":
                    yield int(name)


def _pids(volume: Path) -> Iterator[int]:
    import psutil

    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(VOLUME_VARIABLE) == str(volume):
                yield process.pid


def wait_until_gone(processes: Iterable[psutil.Process], timeout: float) -> list[psutil.Process]:
    """Wait up to `timeout` seconds for the processes to end; return those that have not."""
    import psutil

    return list(psutil.wait_procs(list(processes), timeout=timeout)[1])
