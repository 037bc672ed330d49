"""The processes that use a volume: those that a kernel left behind, and those that work in it.

A kernel's children outlive the kernel if they were put in the background. Most of them do not inherit the lease
(Python's `subprocess` closes descriptors), but all inherit the environment, which names their volume.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from provisioner.core.session import VOLUME_VARIABLE

if TYPE_CHECKING:
    import psutil

_PROC = Path("/proc")
_POLL_SECONDS = 0.2
"""How often `wait_until_gone` looks at `cancel`."""


def processes_of(volume: Path) -> list[psutil.Process]:
    """Return the processes, other than this one, whose environment names `volume`.

    Processes of other users are skipped, as they cannot be read; a root belongs to one user.
    """
    pids = volumes_with_processes().get(str(volume))
    if pids is None:
        return []
    # An import of milliseconds, at the end of a kernel that mostly left nothing behind.
    import psutil

    found = []
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def volumes_with_processes() -> dict[str, tuple[int, ...]]:
    """Return the volumes that environments of other processes name, with these processes: one look for all volumes."""
    found: dict[str, tuple[int, ...]] = {}
    of_volumes = _others(_volume_of, lambda process: process.environ().get(VOLUME_VARIABLE, ""))
    for pid, volume in of_volumes:
        if volume:
            found[volume] = (*found.get(volume, ()), pid)
    return found


def processes_working_in(volume: Path) -> list[int]:
    """Return the processes, other than this one, whose working directory lies in `volume`."""
    real = os.path.realpath(volume)
    working = _others(lambda entry: os.readlink(f"{entry}/cwd"), lambda process: process.cwd())
    return [pid for pid, cwd in working if cwd == real or cwd.startswith(f"{real}{os.sep}")]


def wait_until_gone(
    processes: Iterable[psutil.Process], timeout: float, cancel: Event | None = None
) -> list[psutil.Process]:
    """Wait up to `timeout` seconds for the processes to end, or until `cancel` is set; return those that have not."""
    import psutil

    left, cancel = list(processes), cancel or Event()
    deadline = time.monotonic() + timeout
    while left and not cancel.is_set() and (seconds := deadline - time.monotonic()) > 0:
        left = psutil.wait_procs(left, timeout=min(seconds, _POLL_SECONDS))[1]
    return left


def _others(
    read: Callable[[str], str], read_by_psutil: Callable[[psutil.Process], str]
) -> Iterator[tuple[int, str]]:
    """Yield what can be read of each process but this one: by `read` from its directory in /proc, where there is one.

    On Linux, /proc is read directly: every shutdown of a kernel waits for this, and psutil took six times as long.
    """
    own = os.getpid()
    if (_PROC / "self" / "environ").exists():
        for name in os.listdir(_PROC):
            if name.isdigit() and int(name) != own:
                with contextlib.suppress(OSError):
                    yield int(name), read(f"{_PROC}/{name}")
        return
    import psutil

    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != own and process.status() != psutil.STATUS_ZOMBIE:
                yield process.pid, read_by_psutil(process)


def _volume_of(entry: str) -> str:
    """Return the volume that a process's environment names, as it was started with; empty if it names none."""
    with open(f"{entry}/environ", "rb", buffering=0) as file:
        environment = b"\0" + file.readall()
    _, _, rest = environment.partition(b"\0%s=" % VOLUME_VARIABLE.encode())
    return os.fsdecode(rest.partition(b"\0")[0])
