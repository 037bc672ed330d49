"""Hands the pool's events to subscribers."""

from __future__ import annotations

from collections.abc import Callable

from provisioner.core.event import Event
from provisioner.settings.log import log

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
        """Hand an event to all subscribers; one that fails is logged, and the others still get it."""
        for subscriber in self._subscribers:
            try:
                subscriber(event)
            except Exception:
                log.exception("A subscriber to volume events failed")
