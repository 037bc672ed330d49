"""The paths under a root.

    <root>/                       mode 0700
        registry.sqlite3          the table (see `registry`)
        volumes/<id>/             a volume: the files of its session, and
            .volume/              its state directory, which is not for the user to edit:
                record.json       the volume's own small record, from which a lost table is rebuilt
                env/              its Python environment, `sys.prefix` of its kernels
        leases/<id>               the lease's file, beside the volume and not in it: it outlives a prune
        staging/                  what is being prepared, renamed into place when it is complete
        trash/                    what was renamed away and is being deleted
        backups/                  the default destination of backups

An id is random. No session name becomes part of a path.
"""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

STATE_DIRECTORY = ".volume"

NAMING_SCHEME = "v1"
"""The scheme of volume ids. An id is chosen once and stored, so volumes of several schemes can lie side by side."""


def new_id() -> str:
    """Return the id of a new volume: the naming scheme and 80 random bits."""
    return f"{NAMING_SCHEME}-{secrets.token_hex(10)}"


def id_for(text: str) -> str:
    """Return the id of a volume that is made from what `text` names: the same id for the same text."""
    return f"{NAMING_SCHEME}-{hashlib.sha256(text.encode()).hexdigest()[:20]}"


class Layout:
    """The directories and files under a root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.volumes = root / "volumes"
        self.leases = root / "leases"
        self.staging = root / "staging"
        self.trash = root / "trash"
        self.directories = (self.volumes, self.leases, self.staging, self.trash)
        """The directories that every root has."""

    def volume(self, volume_id: str) -> Path:
        """Return the directory of a volume."""
        return self.volumes / volume_id

    def lease(self, volume_id: str) -> Path:
        """Return the lease file of a volume."""
        return self.leases / volume_id


def state_directory(volume: Path) -> Path:
    """Return the directory inside a volume that holds its environment and records."""
    return volume / STATE_DIRECTORY


def make(volume: Path) -> None:
    """Make those of a volume's directories that are missing, readable by their owner alone."""
    volume.mkdir(mode=0o700, exist_ok=True)
    state_directory(volume).mkdir(mode=0o700, exist_ok=True)
