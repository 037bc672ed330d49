"""Who may use this volume now: an OS lock that the kernel process inherits.

The lock is `flock` on a file beside the volume. It belongs to the open file, not to a process: the server opens it,
the kernel inherits the descriptor, and the OS frees it at the instant when the last of them is gone, however they
went. What the file contains only tells *people* who holds it; whether it is held, only the lock says.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from threading import Event
from typing import Any

from provisioner.core.errors import Cancelled
from provisioner.system.forks import gate

_GRACE = 0.05
"""Seconds for which a taken lock is tried again even without a timeout: a look at a lease takes it for microseconds."""


class Purpose(Enum):
    """What a lease is held for."""

    KERNEL = "kernel"
    SHELL = "shell"
    BACKUP = "backup"
    PRUNE = "prune"
    RESTORE = "restore"
    HYDRATE = "hydration"
    RENAME = "renaming"
    LEFT_BEHIND = "processes left behind"

    @property
    def yields(self) -> bool:
        """Whether the holder gives the lease up as soon as a person asks for the volume, or by itself at once."""
        return self in {Purpose.BACKUP, Purpose.PRUNE, Purpose.RENAME}

    @property
    def is_inherited(self) -> bool:
        """Whether processes are started under the lease that keep it for as long as they live."""
        return self not in {Purpose.BACKUP, Purpose.PRUNE, Purpose.RESTORE, Purpose.RENAME}


@dataclass(frozen=True)
class Holder:
    """Who holds a lease, as written into its file.

    Parameters
    ----------
    pid
        The process that took the lease.
    host
        Its machine.
    purpose
        What for.
    since
        When (UTC).
    kernels
        The ids of the kernels that use it.
    processes
        The kernel processes, and those left behind by one that has ended.
    """

    pid: int
    host: str
    purpose: Purpose
    since: datetime
    kernels: tuple[str, ...] = ()
    processes: tuple[int, ...] = ()

    @classmethod
    def this_process(cls, purpose: Purpose, now: datetime, kernel: str | None = None) -> Holder:
        """Describe this process as a holder."""
        return cls(
            os.getpid(), socket.gethostname(), purpose, now, () if kernel is None else (kernel,)
        )

    def __str__(self) -> str:
        """Return who it is, as a clause for messages."""
        said = f"{self.purpose.value}"
        if self.kernels:
            said += f" {', '.join(self.kernels)}"
        said += f" of process {self.pid} on {self.host}"
        if self.purpose is Purpose.LEFT_BEHIND:
            pids = ", ".join(map(str, self.processes))
            said = f"processes {pids} on {self.host}, which a kernel left behind"
        return f"{said} since {self.since.astimezone():%Y-%m-%d %H:%M:%S}"

    def to_json(self) -> bytes:
        """Return the holder as it is written into the lease's file: one line."""
        values = {**asdict(self), "purpose": self.purpose.value, "since": self.since.isoformat()}
        return json.dumps(values).encode() + b"\n"

    @classmethod
    def from_json(cls, content: bytes) -> Holder | None:
        """Read the first line, as `to_json` wrote it; None for anything else, such as a file cut short by a crash."""
        try:
            values: dict[str, Any] = json.loads(content.partition(b"\n")[0])
            return cls(
                int(values["pid"]),
                str(values["host"]),
                Purpose(values["purpose"]),
                datetime.fromisoformat(values["since"]).astimezone(timezone.utc),
                tuple(map(str, values["kernels"])),
                tuple(map(int, values["processes"])),
            )
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return None


class Lease:
    """The exclusive right to use a volume, held until `release` and as long as any process inherited `fd`.

    Parameters
    ----------
    path
        The lease's file.
    fd
        The locked, open file.
    holder
        Who holds it, as last written into the file.
    previous
        Who held it before and did not release it in good order (its process was killed); None after a clean release.
    """

    def __init__(self, path: Path, fd: int, holder: Holder, previous: Holder | None) -> None:
        self.path = path
        self.fd = fd
        self.holder = holder
        self.previous = previous
        gate.join(self)

    @property
    def is_ours(self) -> bool:
        """Whether this process took it; a fork of that process only has a copy."""
        return self.holder.pid == os.getpid()

    def describe(self, holder: Holder) -> None:
        """Write who holds the lease; called when a kernel is added, is up, or has gone."""
        self.holder = holder
        _write(self.fd, holder.to_json())

    def release(self) -> None:
        """Give the lease up; calling it twice is harmless. A process that inherited it keeps it locked.

        In a fork of the process that took it, this closes the fork's copy only.
        """
        if self.fd >= 0 and self.is_ours:
            # Emptied first: whoever gets the lock next sees that all was left in good order.
            with contextlib.suppress(OSError):
                os.ftruncate(self.fd, 0)
        self.abandon()

    def abandon(self) -> None:
        """Close this process's copy and leave the file as it is: others that inherited the lease go on using it."""
        with gate.inside(self):
            fd, self.fd = self.fd, -1
            if fd >= 0:
                os.close(fd)

    def before_fork(self) -> None:
        """Go on: a child may keep it."""

    def after_fork_in_child(self) -> None:
        """Close a copy that nobody works under: the child would keep the volume in use for as long as it lives."""
        if not self.holder.purpose.is_inherited:
            self.abandon()


def take(
    path: Path,
    holder: Holder,
    *,
    patience: Callable[[Holder | None], float],
    cancel: Event,
) -> Lease | None:
    """Take the lease whose file is `path`; None if another process keeps it for longer than `patience` allows.

    Called at the start of a kernel and of each maintenance step, never on an event loop. If this raises or returns
    None, nothing is held.

    Parameters
    ----------
    path
        The lease's file; made if it does not exist.
    holder
        Written into the file once the lease is held.
    patience
        Called with the present holder each time the lease was found taken; returns how many seconds to wait in all.
    cancel
        Ends the wait.

    Raises
    ------
    Cancelled
        If `cancel` was set while waiting.
    """
    began = time.monotonic()
    pause = 0.002
    while True:
        # A child forked before the lease is known to be one would keep it.
        with gate.inside():
            lease = _try_to_take(path, holder)
        if lease is not None:
            return lease
        if time.monotonic() - began >= max(patience(holder_of(path)), _GRACE):
            return None
        if cancel.wait(pause * random.uniform(0.5, 1.5)):
            raise Cancelled("Waiting for a volume was cancelled.")
        pause = min(pause * 1.5, 0.1)


def is_held(path: Path) -> bool:
    """Whether any process holds the lease now."""
    # A child forked while this process looks would be a holder for as long as it lives.
    with gate.inside():
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        try:
            # Shared, so that two lookers do not take one another for a holder.
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False


def holder_of(path: Path) -> Holder | None:
    """Return who wrote last that they hold the lease; None if it was released in good order."""
    try:
        return Holder.from_json(path.read_bytes())
    except OSError:
        return None


def want(path: Path) -> None:
    """Tell maintenance that holds the lease that a person asks for the volume; it gives up within a second."""
    with contextlib.suppress(OSError):
        _wanted(path).touch(mode=0o600)


def unwant(path: Path) -> None:
    """Take the word back: the volume was acquired, or maintenance begins anew."""
    with contextlib.suppress(OSError):
        _wanted(path).unlink()


def is_wanted(path: Path) -> bool:
    """Whether somebody asked maintenance for the lease."""
    return _wanted(path).exists()


def _wanted(path: Path) -> Path:
    return path.with_name(path.name + ".wanted")


def remove(lease: Lease) -> None:
    """Give a lease up and delete its file, of a volume that is no more."""
    with contextlib.suppress(FileNotFoundError):
        lease.path.unlink()
    unwant(lease.path)
    lease.release()


def with_kernel(holder: Holder, kernel: str) -> Holder:
    """Return the holder with one more kernel."""
    return replace(holder, kernels=(*holder.kernels, kernel))


def without_kernel(holder: Holder, kernel: str, process: int | None) -> Holder:
    """Return the holder with one kernel, and its process, fewer."""
    return replace(
        holder,
        kernels=tuple(k for k in holder.kernels if k != kernel),
        processes=tuple(p for p in holder.processes if p != process),
    )


def _try_to_take(path: Path, holder: Holder) -> Lease | None:
    fd = _open_locked(path)
    if fd is None:
        return None
    lease = Lease(path, fd, holder, previous=None)
    try:
        lease.previous = Holder.from_json(os.pread(fd, 65536, 0))
        lease.describe(holder)
    except BaseException:
        lease.abandon()
        raise
    return lease


def _open_locked(path: Path) -> int | None:
    """Open the lease's file and lock it; None if it is locked. The file may be unlinked and made anew meanwhile."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_same_file(fd, path):
                return fd
        except BlockingIOError:
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _is_same_file(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _write(fd: int, content: bytes) -> None:
    # A full disk must not keep anybody from their files: the content only informs. It is never empty in between, which
    # would say of a process killed just then that it left all in good order.
    with contextlib.suppress(OSError):
        os.pwrite(fd, content, 0)
        os.ftruncate(fd, len(content))
