"""The lease: the exclusive right to use a volume, as an OS lock that the kernel process inherits.

The lock is `flock` on a file beside the volume. It belongs to the open file, not to a process: the server opens the
file, the kernel inherits the descriptor, and the OS frees the lock when the last of them is gone, however it ended.
The content of the file tells *people* who holds the lease; only the lock decides whether it is held.
"""

from __future__ import annotations

import contextlib
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
from provisioner.system import locks
from provisioner.system.forks import Descriptor

_WANTED = ".wanted"
"""The suffix of the file beside a lease that asks its holder to give it up."""

_GRACE = 0.3
"""Seconds for which `take` tries again in any case: `is_held` in another process takes the lock for microseconds."""


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
        """Whether the holder gives the lease up as soon as a person asks for the volume, or by itself in a moment."""
        return self in {Purpose.BACKUP, Purpose.PRUNE, Purpose.RENAME}


@dataclass(frozen=True)
class Holder:
    """The holder of a lease, as written into its file: the process that took it, its machine, and the time (UTC).

    `kernels` are the ids of the kernels that use the volume; `processes` are their processes, and those that an ended
    kernel left behind.
    """

    pid: int
    host: str
    purpose: Purpose
    since: datetime
    kernels: tuple[str, ...] = ()
    processes: tuple[int, ...] = ()

    @classmethod
    def this_process(cls, purpose: Purpose, now: datetime, *kernels: str) -> Holder:
        """Describe this process as a holder."""
        return cls(os.getpid(), socket.gethostname(), purpose, now, kernels)

    def __str__(self) -> str:
        """Return the holder as a clause for messages."""
        who = " ".join([self.purpose.value, ", ".join(self.kernels)]).rstrip()
        who = f"{who} of process {self.pid} on {self.host}"
        if self.purpose is Purpose.LEFT_BEHIND:
            pids = ", ".join(map(str, self.processes))
            who = f"processes {pids} on {self.host}, which a kernel left behind"
        return f"{who} since {self.since.astimezone():%Y-%m-%d %H:%M:%S}"

    def to_json(self) -> bytes:
        """Return the content of the lease's file: one line."""
        values = {**asdict(self), "purpose": self.purpose.value, "since": self.since.isoformat()}
        return json.dumps(values).encode() + b"\n"

    @classmethod
    def from_json(cls, content: bytes) -> Holder | None:
        """Read what `to_json` wrote; return None for anything else, such as a file that a crash cut short."""
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
    """A lease that this process holds until `release`, and any process that was passed `fd` for as long as it lives.

    Forked children have no part in it: it is closed there. The `file` is that at `path`, open and locked.
    """

    def __init__(self, path: Path, file: Descriptor, holder: Holder) -> None:
        self.path = path
        self._file = file
        self.previous = Holder.from_json(os.pread(self.fd, 65536, 0))
        """The holder before, if it did not release the lease (its process was killed); None after a clean release."""
        self.describe(holder)

    @property
    def fd(self) -> int:
        """The descriptor to pass on to a kernel; -1 once this process has let go of the lease."""
        return self._file.number

    @property
    def is_ours(self) -> bool:
        """Whether this process holds it; False in a forked child of the process that took it."""
        return self.fd >= 0

    def describe(self, holder: Holder) -> None:
        """Write a new holder into the file. Called when a kernel is added, is up, or has ended."""
        self.holder = holder
        content = holder.to_json()
        # The content only informs, so a full disk must not keep a person from their files. The file is never empty in
        # between: were the process killed then, the lease would look released.
        with contextlib.suppress(OSError):
            os.pwrite(self.fd, content, 0)
            os.ftruncate(self.fd, len(content))

    def release(self) -> None:
        """Give the lease up; calling this twice is harmless. A process that was passed it keeps it held.

        In a forked child of the process that took it, this does nothing.
        """
        if self.is_ours:
            # An empty file tells the next holder that the lease was released and not lost.
            with contextlib.suppress(OSError):
                os.ftruncate(self.fd, 0)
        self.abandon()

    def put_back(self) -> None:
        """Give the lease up as it was taken: the next holder still looks for what a killed holder left behind."""
        if self.previous is None:
            self.release()
        else:
            self.describe(self.previous)
            self.abandon()

    def abandon(self) -> None:
        """Close this process's copy and leave the file's content: processes that were passed it keep the lease."""
        self._file.close()


def take(
    path: Path,
    holder: Holder,
    *,
    patience: Callable[[Holder | None], float],
    cancel: Event,
) -> Lease | None:
    """Take the lease whose file is `path`; return None if another process holds it for longer than `patience` allows.

    Called at the start of a kernel and of each step of a sweep, never on an event loop. If this raises or returns
    None, nothing is held. `patience` is called with the present holder after each attempt and returns how many seconds
    to wait in all. Raises `Cancelled` if `cancel` was set while waiting.
    """
    began = time.monotonic()
    pause = 0.002
    while True:
        if (file := locks.try_lock(path)) is not None:
            try:
                return Lease(path, file, holder)
            except BaseException:
                file.close()
                raise
        if time.monotonic() - began >= max(patience(holder_of(path)), _GRACE):
            return None
        if cancel.wait(pause * random.uniform(0.5, 1.5)):
            raise Cancelled("Waiting for a volume was cancelled.")
        pause = min(pause * 1.5, 0.1)


def is_held(path: Path) -> bool:
    """Whether any process holds the lease now."""
    try:
        # Shared, so that two processes that look at once do not see one another as a holder.
        file = locks.try_lock(path, os.O_RDWR, shared=True)
    except FileNotFoundError:
        return False
    if file is None:
        return True
    with locks.unlocking(file):
        return False


def holder_of(path: Path) -> Holder | None:
    """Return the holder that the file names; None if the lease was released."""
    try:
        return Holder.from_json(path.read_bytes())
    except OSError:
        return None


def want(path: Path) -> None:
    """Ask a sweep that holds the lease to give it up, for a person; it does within a second."""
    with contextlib.suppress(OSError):
        Path(f"{path}{_WANTED}").touch(mode=0o600)


def unwant(path: Path) -> None:
    """Withdraw what `want` asked: the volume was acquired, or a sweep begins anew."""
    with contextlib.suppress(OSError):
        Path(f"{path}{_WANTED}").unlink()


def is_wanted(path: Path) -> bool:
    """Whether a person asks for the lease."""
    return Path(f"{path}{_WANTED}").exists()


def wanted_leases(directory: Path) -> list[Path]:
    """Return the leases in a directory that somebody asked maintenance for."""
    # Not Path.glob: for 2,000 leases it holds the interpreter lock, which a server's event loop needs, twice as long.
    names = [name for name in os.listdir(directory) if name.endswith(_WANTED)]
    return [directory / name.removesuffix(_WANTED) for name in names]


def remove(lease: Lease) -> None:
    """Give a lease up and delete its file; called when the volume is forgotten."""
    with contextlib.suppress(FileNotFoundError):
        lease.path.unlink()
    unwant(lease.path)
    lease.release()


def without_kernel(holder: Holder, kernel: str, process: int | None) -> Holder:
    """Return the holder without a kernel and its process."""
    at = holder.kernels.index(kernel)  # one use: an id may be there twice
    return replace(
        holder,
        kernels=holder.kernels[:at] + holder.kernels[at + 1 :],
        processes=tuple(p for p in holder.processes if p != process),
    )
