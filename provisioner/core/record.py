"""The records of a volume and of a backup, as the table stores them and policy reads them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class State(Enum):
    """The state of a volume."""

    ACTIVE = "active"
    STOPPED = "stopped"
    PRUNED = "pruned"


class Spare(Enum):
    """The state of a spare: a volume that is hydrated before a session asks for it."""

    MAKING = "making"
    READY = "ready"


@dataclass(frozen=True)
class Record:
    """One volume. Times are aware datetimes in UTC, sizes bytes."""

    id: str
    session: str
    kernelspec: str
    state: State
    generation: int
    created: datetime
    backed_up: int = -1
    acquired: datetime | None = None
    stopped: datetime | None = None
    pinned: bool = False
    bytes: int | None = None
    note: str = ""
    retry: datetime | None = None
    failures: int = 0
    spare: Spare | None = None

    @property
    def has_files(self) -> bool:
        """Whether the volume has files on disk, and so counts against the pool's capacity."""
        return self.state is not State.PRUNED

    @property
    def is_backed_up(self) -> bool:
        """Whether a verified, whole backup of this very generation exists."""
        return self.backed_up == self.generation


@dataclass(frozen=True)
class BackupRecord:
    """One backup. `verified` is None until its content was read back and compared."""

    name: str
    destination: str
    id: str
    generation: int
    created: datetime
    size: int
    files: int
    bytes: int
    partial: bool
    verified: datetime | None
