"""Locks on files (`flock`): the operating system frees them when the process that holds them is gone.

Each lock is a `Descriptor`: a forked child closes its copy, and a process that is started holds the lock only if it is
passed the descriptor. The lock ends with the last open copy, or with `unlocking`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from provisioner.system.forks import Descriptor

_ALWAYS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""No link is followed and no pipe is waited for: a kernel can put either in the place of a file in its volume."""


def try_lock(
    path: Path, flags: int = os.O_RDWR | os.O_CREAT, *, shared: bool = False
) -> Descriptor | None:
    """Open a file and lock it; return None if another open file has it locked.

    The lock is on the file that lies at `path` when this returns, also if the file was deleted and made anew meanwhile.
    A file that is created has mode 0600. Others may hold a `shared` lock at the same time.

    Raises `OSError` if the file cannot be opened, or its file system has no locks.
    """
    operation = fcntl.LOCK_NB | (fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    while True:
        file = Descriptor(lambda: os.open(path, flags | _ALWAYS, 0o600))
        with contextlib.ExitStack() as on_failure:
            on_failure.enter_context(file)
            try:
                fcntl.flock(file.number, operation)
            except BlockingIOError:
                return None
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.number), path.lstat()):
                    on_failure.pop_all()
                    return file


def lock(
    path: Path, pause: Callable[[float], object], flags: int = os.O_RDWR | os.O_CREAT
) -> Descriptor:
    """Lock a file as `try_lock` does, as soon as no other open file has it locked.

    `pause` is called after each attempt that failed, with the seconds waited so far. It sleeps for a moment, or raises
    to end the wait.
    """
    began = time.monotonic()
    while (file := try_lock(path, flags)) is None:
        pause(time.monotonic() - began)
    return file


@contextlib.contextmanager
def unlocking(file: Descriptor) -> Iterator[None]:
    """Give up a lock at the end of the block, also for a forked child that has not closed its copy yet.

    Not for a lock that was passed to another process.
    """
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            fcntl.flock(file.number, fcntl.LOCK_UN)
        file.close()
