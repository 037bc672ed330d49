"""What all parts of a pool share: its settings, its clock, and the hub for its events."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from provisioner.core.event import Event, Kind
from provisioner.core.record import Record
from provisioner.pool.hub import Hub
from provisioner.settings.pool import VolumePool

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the time; the default clock."""
    return datetime.now(timezone.utc)


def no_step(step: str) -> None:
    """Do nothing at a step; the default."""


class Context:
    """One instance is shared by the parts of a pool.

    Parameters
    ----------
    settings
        The pool's settings; replaced when the configuration file was edited.
    clock
        Returns the time (UTC).
    on_step
        Called with the name of each step before it is taken; for tests that stop the process there.
    """

    def __init__(
        self, settings: VolumePool, clock: Clock = utc_now, on_step: Callable[[str], None] = no_step
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.on_step = on_step
        self.events = Hub()

    def emit(self, kind: Kind, record: Record, kernel: str = "", **details: Any) -> None:
        """Hand an event about a volume to the subscribers."""
        self.events.emit(Event(kind, self.clock(), record.session, record.id, kernel, details))
