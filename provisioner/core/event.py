"""The events of volumes. Subscribing to them is the only way in which the faces learn what the pool does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from types import MappingProxyType
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
    """One event.

    Parameters
    ----------
    kind
        What happened.
    at
        When it happened (UTC).
    session
        The session of the volume.
    volume
        The volume's id; empty if there is none yet.
    kernel
        The kernel's id; empty if the event is not about a kernel.
    details
        Further values of plain JSON types; never an environment.
    """

    kind: Kind
    at: datetime
    session: str
    volume: str = ""
    kernel: str = ""
    details: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
