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

import json
import os
import secrets
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from .errors import BadSession
from .session import checked

STATE_DIRECTORY = ".volume"
RECORD_NAME = "record.json"

NAMING_SCHEME = "v1"
"""The scheme of volume ids. An id is stored at its making and never derived again, so schemes may live side by side."""

_RECORD_FORMAT = 1

_MAX_GENERATION = 2**62
"""What the table's integers can hold, with room to count on."""


def new_id() -> str:
    """Return the id of a new volume: the naming scheme and 80 random bits."""
    return f"{NAMING_SCHEME}-{secrets.token_hex(10)}"


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


def write_record(volume: Path, record: VolumeRecord) -> None:
    """Write a volume's record; atomic. After a crash of the machine the record may be the one before."""
    content = {
        "format": _RECORD_FORMAT,
        "id": record.id,
        "session": record.session,
        "kernelspec": record.kernelspec,
        "generation": record.generation,
        "created": record.created.isoformat(),
        "pinned": record.pinned,
    }
    path = state_directory(volume) / RECORD_NAME
    aside = path.with_suffix(f".{os.getpid()}.tmp")
    aside.write_text(json.dumps(content, ensure_ascii=True), encoding="ascii")
    aside.replace(path)


def read_record(volume: Path) -> VolumeRecord | None:
    """Return a volume's own record; None if it is missing or cannot be understood.

    A kernel can write to it as it can to all of its volume, so whatever stands there is looked at twice.
    """
    try:
        content = json.loads((state_directory(volume) / RECORD_NAME).read_bytes())
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
