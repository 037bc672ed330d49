"""One volume on disk: its paths and its record; and the layout of the root around it.

    <root>/                       mode 0700
        registry.sqlite3          the table (see `registry`)
        volumes/<id>/             a volume: the files of its session, and
            .volume/              what belongs to it but is not the user's to edit:
                record.json       the volume's own small record, from which a lost table is rebuilt
                env/              its Python environment, `sys.prefix` of its kernels
        leases/<id>               the lease's file, beside the volume and not in it: it outlives a prune
        staging/                  what is being made ready, renamed into place when it is whole
        trash/                    what was renamed away and is being deleted
        backups/                  the default destination of backups

An id is random. No session name reaches the file system in any form.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from provisioner.core.errors import BadSession
from provisioner.core.session import checked

STATE_DIRECTORY = ".volume"
RECORD_NAME = "record.json"

NAMING_SCHEME = "v1"
"""The scheme of volume ids. An id is stored at its making and never derived again, so schemes may live side by side."""

_RECORD_FORMAT = 1

_MAX_RECORD_BYTES = 1 << 20
"""Far more than a record can have, whose longest part is a name."""

_PATIENCE = timedelta(seconds=2)
"""How long another writer of a record is waited for; it takes about a millisecond."""

_MAX_GENERATION = 2**62
"""What the table's integers can hold, with room to count on."""


def new_id() -> str:
    """Return the id of a new volume: the naming scheme and 80 random bits."""
    return f"{NAMING_SCHEME}-{secrets.token_hex(10)}"


def id_for(text: str) -> str:
    """Return the id of a volume that is made of what `text` names, the same each time."""
    return f"{NAMING_SCHEME}-{hashlib.sha256(text.encode()).hexdigest()[:20]}"


@dataclass(frozen=True)
class Layout:
    """Where things lie under a root."""

    root: Path

    @property
    def volumes(self) -> Path:
        """The directory of all volumes."""
        return self.root / "volumes"

    @property
    def leases(self) -> Path:
        """The directory of the leases' files."""
        return self.root / "leases"

    @property
    def staging(self) -> Path:
        """The directory for what is being made ready."""
        return self.root / "staging"

    @property
    def trash(self) -> Path:
        """The directory for what is being deleted."""
        return self.root / "trash"

    @property
    def directories(self) -> tuple[Path, ...]:
        """All directories that a root has."""
        return (self.volumes, self.leases, self.staging, self.trash)

    def volume(self, volume_id: str) -> Path:
        """Return the directory of a volume."""
        return self.volumes / volume_id

    def lease(self, volume_id: str) -> Path:
        """Return the file of a volume's lease."""
        return self.leases / volume_id


@dataclass(frozen=True)
class VolumeRecord:
    """What a volume says of itself, so that a lost table can be rebuilt from what lies on disk."""

    id: str
    session: str
    kernelspec: str
    generation: int
    created: datetime
    pinned: bool = False


def state_directory(volume: Path) -> Path:
    """Return the directory inside a volume for its environment and records."""
    return volume / STATE_DIRECTORY


def make(volume: Path) -> None:
    """Make a volume's directories, or those of them that are missing; private to their owner."""
    volume.mkdir(mode=0o700, exist_ok=True)
    state_directory(volume).mkdir(mode=0o700, exist_ok=True)


def write_record(volume: Path, tell: Callable[[], VolumeRecord]) -> None:
    """Write a volume's record; atomic. After a crash of the machine the record may be the one before.

    Writers take turns, so that the last one writes the newest; each removes what a killed one left.

    Parameters
    ----------
    volume
        The volume's directory.
    tell
        Returns the record; asked when it is this writer's turn.

    Raises
    ------
    FileNotFoundError
        If the volume is not on disk.
    OSError
        If the record cannot be written, or another writer does not come to an end (`TimeoutError`).
    """
    directory = state_directory(volume)
    with _in_turn(directory) as has_turn:
        if has_turn:
            _remove_unfinished(directory)
        content = json.dumps(_to_json(tell()), ensure_ascii=True).encode()
        aside = directory / f"record.{secrets.token_hex(4)}.tmp"
        try:
            aside.write_bytes(content)
            aside.replace(directory / RECORD_NAME)
        except BaseException:
            with contextlib.suppress(OSError):
                aside.unlink()
            raise


@contextlib.contextmanager
def _in_turn(directory: Path) -> Iterator[bool]:
    """Let one writer at a time write a record; False where directories cannot be locked, as on NFS."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield _lock(fd, directory)
    finally:
        # Closing it would not be enough: a child forked meanwhile has a copy.
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)


def _lock(fd: int, directory: Path) -> bool:
    deadline = time.monotonic() + _PATIENCE.total_seconds()
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    errno.ETIMEDOUT, "another process keeps it locked", str(directory)
                ) from None
            time.sleep(0.002)
        except OSError:
            return False
        else:
            return True


def _remove_unfinished(directory: Path) -> None:
    """Remove what writers left that were killed; the one whose turn it is has not begun."""
    for left in directory.glob("record.*.tmp"):
        with contextlib.suppress(OSError):
            left.unlink()


def _to_json(record: VolumeRecord) -> dict[str, object]:
    return {
        "format": _RECORD_FORMAT,
        "id": record.id,
        "session": record.session,
        "kernelspec": record.kernelspec,
        "generation": record.generation,
        "created": record.created.isoformat(),
        "pinned": record.pinned,
    }


def read_record(volume: Path) -> VolumeRecord | None:
    """Return a volume's own record; None if it is missing or cannot be understood.

    A kernel can write to it as it can to all of its volume, so whatever stands there is looked at twice.
    """
    try:
        content = json.loads(_bytes_of(state_directory(volume) / RECORD_NAME))
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


def _bytes_of(path: Path) -> bytes:
    """Read a small file, but not what a kernel may have put into its place: a pipe would be waited for for ever."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return file.read(_MAX_RECORD_BYTES)
