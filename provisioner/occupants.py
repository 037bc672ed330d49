"""Who lives in a volume: the processes that a kernel left behind.

A kernel's children outlive it when they were put in the background. Most of them do not inherit the lease (Python's
`subprocess` closes descriptors), but all inherit the environment, which names their volume.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from .session import VOLUME_VARIABLE

if TYPE_CHECKING:
    import psutil


def occupants(volume: Path) -> list[psutil.Process]:
    """Return the processes, other than this one, whose environment says that they live in `volume`.

    Processes of other users cannot be read and are passed over; a root belongs to one user.
    """
    import psutil

    wanted = str(volume)
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.environ().get(VOLUME_VARIABLE) != wanted:
                continue
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def wait_until_gone(processes: Iterable[psutil.Process], timeout: float) -> list[psutil.Process]:
    """Wait up to `timeout` seconds for the processes to end; return those that have not."""
    import psutil

    return list(psutil.wait_procs(list(processes), timeout=timeout)[1])
