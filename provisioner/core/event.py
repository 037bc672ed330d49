"""The events of volumes. Subscribing to them is the only way in which the faces learn what the pool does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any


class Kind(Enum):
    """The kinds of events; the values are stable names."""

    ASKED = "asked"
    ACQUIRED = "acquired"
    RELEASED = "released"
    REFUSED = "refused"
    RELABELLED = "relabelled"
    HYDRATION_PROGRESS = "hydration-progress"
    HYDRATED = "hydrated"
    RESTORE_PROGRESS = "restore-progress"
    RESTORED = "restored"
    BACKED_UP = "backed-up"
    PRUNED = "pruned"
    EVICTED = "evicted"
    FAILED = "failed"


@dataclass(frozen=True)
class Event:
    """What happened (`kind`), when (`at`, UTC), and to which session.

    `volume` and `kernel` are ids, empty where there is none. `details` are further values of plain JSON types, never an
    environment.
    """

    kind: Kind
    at: datetime
    session: str
    volume: str = ""
    kernel: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
