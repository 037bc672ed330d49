"""What happens to volumes, told to whoever subscribed: the one way from the pool to the faces."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from types import MappingProxyType
from typing import Any

log = logging.getLogger("jupyter_volumes")


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


Subscriber = Callable[[Event], None]


class Hub:
    """Hands events to subscribers, in the thread in which they happen."""

    def __init__(self) -> None:
        self._subscribers: tuple[Subscriber, ...] = ()

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Add a subscriber; it must return at once. Calling the result takes it off again."""
        self._subscribers = (*self._subscribers, subscriber)

        def unsubscribe() -> None:
            self._subscribers = tuple(s for s in self._subscribers if s is not subscriber)

        return unsubscribe

    def emit(self, event: Event) -> None:
        """Hand an event to all; a subscriber that fails is logged and harms nobody."""
        for subscriber in self._subscribers:
            try:
                subscriber(event)
            except Exception:
                log.exception("A subscriber to volume events failed")
