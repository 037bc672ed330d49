"""Whether a stopped volume's files are still those of its backup.

Generations count what is done under the lease. But a directory is open to whoever may write there: a terminal, a
file manager, a process that a kernel left behind. So a backup begins with a seal, the time on the clock of the file
system, and before files are deleted for good each of them is asked whether it has changed since.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from .volume import STATE_DIRECTORY, state_directory

_NAME = "sealed"

_TICK_SECONDS = 0.01
"""How coarse the time stamps of files are: one tick of a kernel that ticks 100 times a second."""


def seal(volume: Path) -> None:
    """Note that from now on any change to the volume's files is one that its next backup does not have.

    Raises
    ------
    OSError
        If the mark cannot be written, as on a full disk.
    """
    # Whatever was written before now bears an earlier time than the seal.
    time.sleep(_TICK_SECONDS)
    path = state_directory(volume) / _NAME
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    os.utime(path)


def unseal(volume: Path) -> None:
    """Take the mark away: whatever is there may be deleted."""
    (state_directory(volume) / _NAME).unlink(missing_ok=True)


def is_broken(volume: Path) -> bool:
    """Whether anything in the volume has changed since it was sealed; False of one that never was, or is gone.

    Reads no file, but looks at each until one has changed: for 100,000 that takes a fifth of a second.

    Raises
    ------
    OSError
        If a directory cannot be read.
    """
    try:
        since = os.lstat(state_directory(volume) / _NAME).st_mtime_ns
    except FileNotFoundError:
        return False
    # A time to come was set by hand, and says nothing of when.
    until = time.time_ns() + 1_000_000_000
    return any(since <= moment <= until for moment in _changes(volume))


def _changes(volume: Path) -> Iterator[int]:
    """Yield when each thing in a volume was last changed, in nanoseconds.

    Not counted: renaming the volume itself, and what lies in its state directory, where others than its session
    write. What lies further below (the environment) counts.
    """
    yield os.lstat(volume).st_mtime_ns
    waiting = [os.fspath(volume)]
    while waiting:
        directory = waiting.pop()
        is_state = os.path.basename(directory) == STATE_DIRECTORY
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                    if entry.name == STATE_DIRECTORY:
                        continue
                elif is_state:
                    continue
                yield _changed(entry.stat(follow_symlinks=False))


def _changed(status: os.stat_result) -> int:
    """Return when the content of a file was last changed, or what a directory holds.

    That is the change time, which nobody can set. Of a file with several names it also tells when another name was
    given or taken, as with each environment that is linked from the same cache.
    """
    if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
        return status.st_mtime_ns
    return status.st_ctime_ns
