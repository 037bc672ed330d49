"""What happens to volumes, told to whoever subscribed: the one way from the pool to the faces."""

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
    """One thing that happened.

    Parameters
    ----------
    kind
        What.
    at
        When (UTC).
    session
        The session whose volume it is about.
    volume
        The volume's id; empty where there is none (yet).
    kernel
        The kernel's id; empty where no kernel is concerned.
    details
        Further values of plain JSON types; never an environment.
    """

    kind: Kind
    at: datetime
    session: str
    volume: str = ""
    kernel: str = ""
    details: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
