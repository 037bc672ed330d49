"""What is known of a volume and of a backup: plain values that the table keeps and that policy decides from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class State(Enum):
    """What a volume is right now."""

    ACTIVE = "active"
    STOPPED = "stopped"
    PRUNED = "pruned"


class Spare(Enum):
    """How far a volume is that is made ready before anybody asks."""

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
        """Whether the volume takes a slot in the pool."""
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
