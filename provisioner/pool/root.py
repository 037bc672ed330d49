"""One root: its settings, clock and events; its layout and its table, which are opened when they are first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from provisioner.core.event import Event, Kind
from provisioner.core.record import Record
from provisioner.pool.trash import Trash
from provisioner.registry.rebuild import Rebuilder
from provisioner.registry.registry import Registry
from provisioner.settings.log import log
from provisioner.settings.pool import VolumePool
from provisioner.system import forks
from provisioner.system.layout import Layout
from provisioner.system.reserve import Reserve
from provisioner.system.root import prepare

Clock = Callable[[], datetime]
Subscriber = Callable[[Event], None]


def utc_now() -> datetime:
    """Return the time; the default clock."""
    return datetime.now(timezone.utc)


def no_step(step: str) -> None:
    """Do nothing at a step; the default."""


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


class Root:
    """What all parts of a pool share. The settings are replaced when the configuration file was edited."""

    def __init__(self, settings: VolumePool, clock: Clock, on_step: Callable[[str], None]) -> None:
        self.settings = settings
        self.clock = clock
        self.on_step = on_step
        self.events = Hub()
        self._guard = threading.RLock()
        self._opened: tuple[Layout, Registry] | None = None
        forks.register(self)

    def emit(self, kind: Kind, record: Record, kernel: str = "", **details: Any) -> None:
        """Hand an event about a volume to the subscribers."""
        self.events.emit(Event(kind, self.clock(), record.session, record.id, kernel, details))

    @property
    def layout(self) -> Layout:
        """Where things lie. The first use prepares the root (`RootUnusable`)."""
        return self._open()[0]

    @property
    def registry(self) -> Registry:
        """The table. The first use opens or rebuilds it (`RegistryUnusable`)."""
        return self._open()[1]

    @property
    def reserve(self) -> Reserve:
        """The space kept back so that a full disk does not stop the table."""
        return Reserve(self.layout.root)

    def close(self) -> None:
        """Close the table; volumes in use stay in use."""
        with self._guard:
            if self._opened is not None:
                self._opened[1].close()
                self._opened = None

    def rebuild_if_damaged(self) -> None:
        """Check every page of the table, and rebuild it from what lies on disk if one is damaged."""
        self.close()
        self._rebuilder(self._prepare()).ensure(thorough=True)

    def after_fork_in_child(self) -> None:
        """Replace the lock: another thread may have held it."""
        self._guard = threading.RLock()

    def _open(self) -> tuple[Layout, Registry]:
        with self._guard:
            if self._opened is None:
                layout = self._prepare()
                self._opened = (layout, self._rebuilder(layout).open())
                Reserve(layout.root).fill()
            return self._opened

    def _prepare(self) -> Layout:
        settings = self.settings
        return prepare(settings.root_path, allow_network=settings.allow_network_root)

    def _rebuilder(self, layout: Layout) -> Rebuilder:
        return Rebuilder(layout, self.clock, self._find_backups, lambda: _make_room(layout))

    def _find_backups(self, registry: Registry) -> None:
        """Enter the backups into a table that is being rebuilt; one destination out of reach does not prevent it."""
        # Imported here: a start that rebuilds no table does not load the archive's code.
        from provisioner.pool import stored

        for destination in self.settings.destinations:
            try:
                stored.enter_all(registry, destination)
            except Exception as error:  # noqa: BLE001 - the packages behind a URL may raise anything
                log.warning("The backups at %s could not be read: %s", destination, error)


def _make_room(layout: Layout) -> bool:
    """Make room for the table on a full disk: empty the trash, then give up the reserve; return whether that helped."""
    return Trash(layout.trash).empty() > 0 or Reserve(layout.root).spend()
