"""The record that a volume carries (`record.json`), so that a lost table can be rebuilt from the volumes on disk."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from provisioner.core.errors import BadSession
from provisioner.core.session import checked
from provisioner.system import locks
from provisioner.system.files import replace_file
from provisioner.system.layout import state_directory

NAME = "record.json"

_MAX_BYTES = 1 << 20
"""Far more than a record can have; its longest part is a name."""

_PATIENCE = timedelta(seconds=2)
"""How long a writer waits for another one, which takes about a millisecond."""

_MAX_GENERATION = 2**62
"""What the table's integers can hold, with room to count on."""

_NO_LOCKS = frozenset(
    {errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
)
"""The errors of file systems that cannot lock a directory, such as NFS."""


@dataclass(frozen=True)
class VolumeRecord:
    """What a volume records of itself."""

    id: str
    session: str
    kernelspec: str
    generation: int
    created: datetime
    pinned: bool = False


def write(volume: Path, current: Callable[[], VolumeRecord]) -> None:
    """Write a volume's record; atomic. After a crash of the machine it may be the record before.

    One writer at a time calls `current` for the record as it is now and writes it, so the last one writes the newest.

    Raises `OSError` if the volume is not on disk (`FileNotFoundError`), the record cannot be written, or another writer
    keeps the lock for too long (`TimeoutError`).
    """
    directory = state_directory(volume)
    with _locked(directory) as is_locked:
        record = current()
        values = {"format": 1, **asdict(record), "created": record.created.isoformat()}
        content = json.dumps(values, ensure_ascii=True).encode()
        replace_file(directory / NAME, content, many_writers=not is_locked)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[bool]:
    """Exclude other writers; yield False where the file system cannot lock a directory."""

    def pause(waited: float) -> None:
        if waited > _PATIENCE.total_seconds():
            raise TimeoutError(errno.ETIMEDOUT, "another process keeps it locked", str(directory))
        time.sleep(0.002)

    try:
        lock = locks.lock(directory, pause, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        yield False
        return
    with locks.unlocking(lock):
        yield True


def read(volume: Path) -> VolumeRecord | None:
    """Return a volume's own record; None if it is missing or cannot be understood.

    A kernel can write to it, as to all of its volume, so every value is checked.
    """
    try:
        path = state_directory(volume) / NAME
        # Opening a pipe that a kernel put in its place must not wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            content = json.loads(file.read(_MAX_BYTES))
        return VolumeRecord(
            id=str(content["id"]),
            session=checked(content["session"], "a volume's record"),
            kernelspec=str(content["kernelspec"]).encode(errors="replace").decode(),
            generation=min(max(int(content["generation"]), 0), _MAX_GENERATION),
            created=datetime.fromisoformat(content["created"]).astimezone(timezone.utc),
            pinned=bool(content["pinned"]),
        )
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError, BadSession):
        return None
