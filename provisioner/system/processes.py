"""Who lives in a volume: the processes that a kernel left behind.

A kernel's children outlive it when they were put in the background. Most of them do not inherit the lease (Python's
`subprocess` closes descriptors), but all inherit the environment, which names their volume.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from provisioner.core.session import VOLUME_VARIABLE

if TYPE_CHECKING:
    import psutil

_PROC = Path("/proc")
_LOOK_SECONDS = 0.2
"""How often who waits for processes to end looks whether that is still wanted."""


def occupants(volume: Path) -> list[psutil.Process]:
    """Return the processes, other than this one, whose environment says that they live in `volume`.

    Processes of other users cannot be read and are passed over; a root belongs to one user.
    """
    pids = list(_linux_pids(volume) if (_PROC / "self" / "environ").exists() else _pids(volume))
    if not pids:
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


def occupied() -> dict[str, tuple[int, ...]]:
    """Return all volumes in which other processes live, with these; one look, however many volumes there are."""
    import psutil

    found: dict[str, tuple[int, ...]] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            volume = process.environ().get(VOLUME_VARIABLE)
            if volume and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found[volume] = (*found.get(volume, ()), process.pid)
    return found


def _linux_pids(volume: Path) -> Iterator[int]:
    """Look through /proc by hand: every shutdown of a kernel waits for this, and psutil took six times as long."""
    wanted = b"\0" + os.fsencode(f"{VOLUME_VARIABLE}={volume}") + b"\0"
    own = str(os.getpid())
    for name in os.listdir("/proc"):
        if name.isdigit() and name != own and wanted in b"\0" + _environment(name) + b"\0":
            yield int(name)


def dwellers(volume: Path) -> list[int]:
    """Return the processes, other than this one, whose working directory lies in `volume`."""
    volume = Path(os.path.realpath(volume))
    if not (_PROC / "self" / "cwd").exists():
        return list(_dwellers(volume))
    own = str(os.getpid())
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and name != own:
            with contextlib.suppress(OSError):
                if _is_within(os.readlink(f"/proc/{name}/cwd"), volume):
                    found.append(int(name))
    return found


def _dwellers(volume: Path) -> Iterator[int]:
    import psutil

    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and _is_within(process.cwd(), volume):
                yield process.pid


def _is_within(directory: str, volume: Path) -> bool:
    return directory == str(volume) or directory.startswith(f"{volume}{os.sep}")


def _environment(pid: str) -> bytes:
    """Return a process's environment as it was started with; nothing of one that is gone or another user's."""
    try:
        fd = os.open(f"/proc/{pid}/environ", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        parts = []
        while part := os.read(fd, 1 << 17):
            parts.append(part)
        return b"".join(parts)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _pids(volume: Path) -> Iterator[int]:
    import psutil

    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(VOLUME_VARIABLE) == str(volume):
                yield process.pid


def wait_until_gone(
    processes: Iterable[psutil.Process], timeout: float, cancel: Event | None = None
) -> list[psutil.Process]:
    """Wait up to `timeout` seconds for the processes to end, or until `cancel` is set; return those that have not."""
    import psutil

    left = list(processes)
    if cancel is None:
        return list(psutil.wait_procs(left, timeout=timeout)[1])
    deadline = time.monotonic() + timeout
    while left and not cancel.is_set() and (seconds := deadline - time.monotonic()) > 0:
        left = psutil.wait_procs(left, timeout=min(seconds, _LOOK_SECONDS))[1]
    return left
