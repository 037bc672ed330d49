"""The volumes under one root as names and records: who is who, and who is in use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from provisioner.core.errors import RegistryUnusable, VolumeNotFound
from provisioner.core.event import Event, Kind
from provisioner.core.policy import Due, due
from provisioner.core.record import Record, State
from provisioner.pool.hub import Hub
from provisioner.pool.trash import Trash
from provisioner.pool.vault import Vault, rescan
from provisioner.registry import rebuild as recovery
from provisioner.registry.registry import Registry
from provisioner.settings.log import log
from provisioner.settings.pool import VolumePool
from provisioner.system import forks, volume_record
from provisioner.system import lease as leases
from provisioner.system.layout import Layout
from provisioner.system.lease import Holder, Purpose
from provisioner.system.processes import processes_of, volumes_with_processes
from provisioner.system.reserve import Reserve
from provisioner.system.root import prepare
from provisioner.system.volume_record import VolumeRecord

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the time; the default clock."""
    return datetime.now(timezone.utc)


class Catalog:
    """Finds and lists volumes; acquires none.

    Parameters
    ----------
    settings
        The pool's settings.
    clock
        Tells the time.
    on_step
        Called with the name of each step before it is taken; for tests that stop the process there.
    """

    def __init__(
        self,
        settings: VolumePool,
        clock: Clock = utc_now,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.events = Hub()
        self._on_step = on_step
        self._guard = threading.RLock()
        self._opened: tuple[Layout, Registry] | None = None
        forks.register(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.settings.summary()}>"

    def close(self) -> None:
        """Close the table; volumes in use stay in use."""
        with self._guard:
            if self._opened is not None:
                self._opened[1].close()
                self._opened = None

    @property
    def layout(self) -> Layout:
        """Where things lie. Prepares the root on first use (`RootUnusable`)."""
        return self._open()[0]

    @property
    def registry(self) -> Registry:
        """The table. Opened, or rebuilt, on first use (`RegistryUnusable`)."""
        return self._open()[1]

    @property
    def reserve(self) -> Reserve:
        """The space kept back so that a full disk does not stop the table."""
        return Reserve(self.layout.root)

    @property
    def vault(self) -> Vault:
        """The backups at the general destination; and how to reach those anywhere."""
        return self.vault_at(self.settings.destination)

    def vault_at(self, destination: str) -> Vault:
        """Return the backups at a destination."""
        layout, registry = self._open()
        return Vault(layout, registry, destination, self._on_step)

    def repair_table(self) -> None:
        """Look at every page of the table, and rebuild it from what lies on disk if one is damaged."""
        self.close()
        layout = prepare(self.settings.root_path, allow_network=self.settings.allow_network_root)
        recovery.ensure_registry(
            layout, self.clock(), self._find_backups, lambda: _relieve(layout), thorough=True
        )

    # -- looking ---------------------------------------------------------------------------------------------

    def find(self, session: str) -> Record:
        """Return the volume of a session, by its name, a former name, or its id.

        Raises
        ------
        VolumeNotFound
            Naming the sessions that are nearest.
        """
        registry = self.registry
        record = registry.find(session) or registry.find_former(session) or registry.get(session)
        if record is None:
            raise VolumeNotFound(
                f"No volume has the session {session[:200]!r}{self._near(session)}; "
                "`jupyter volumes list` shows all."
            )
        return self.observed(record)

    def volumes(self) -> list[Record]:
        """Return all volumes, each in the state that its lease and the processes in it show."""
        records = self.registry.volumes()
        if not any(map(self._is_unheld, records)):
            return records
        inhabited = volumes_with_processes()
        return [
            _as_stopped(record)
            if self._is_unheld(record) and str(self.path(record)) not in inhabited
            else record
            for record in records
        ]

    def observed(self, record: Record) -> Record:
        """Return a record with the state that the lease shows, which is the truth about "in use"."""
        if self._is_unheld(record) and not processes_of(self.path(record)):
            return _as_stopped(record)
        return record

    def _is_unheld(self, record: Record) -> bool:
        """Whether a volume's kernel has ended and nobody noted it; what it started may live on in it."""
        return record.state is State.ACTIVE and not self.is_in_use(record)

    def due(self, record: Record) -> Due:
        """Return when a volume is backed up and pruned next, if nobody uses it before."""
        return due(record, self.settings.policy(record.kernelspec))

    def is_in_use(self, record: Record) -> bool:
        """Whether any process holds the volume's lease."""
        return leases.is_held(self.layout.lease(record.id))

    def holder(self, record: Record) -> Holder | None:
        """Return who holds a volume, be it processes that a kernel left behind; None if nobody does or nobody said."""
        last = leases.holder_of(self.layout.lease(record.id))
        if last is None or self.is_in_use(record):
            return last
        left = processes_of(self.path(record)) if record.state is State.ACTIVE else []
        if not left:
            return None
        pids = tuple(process.pid for process in left)
        return replace(last, purpose=Purpose.LEFT_BEHIND, processes=pids)

    def path(self, record: Record) -> Path:
        """Return the directory of a volume."""
        return self.layout.volume(record.id)

    def names_of(self, path: str) -> frozenset[str]:
        """Return all names, former ones too, of the volume that is the directory `path`; none if it is no volume."""
        volume_path = Path(path)
        if not path or volume_path.parent != self.layout.volumes:
            return frozenset()
        return frozenset(self.registry.names(volume_path.name))

    # -- for the floors above --------------------------------------------------------------------------------

    def _open(self) -> tuple[Layout, Registry]:
        with self._guard:
            if self._opened is None:
                settings = self.settings
                layout = prepare(settings.root_path, allow_network=settings.allow_network_root)
                registry = recovery.open_registry(
                    layout, self.clock, self._find_backups, lambda: _relieve(layout)
                )
                self._opened = (layout, registry)
                Reserve(layout.root).fill()
            return self._opened

    def _find_backups(self, registry: Registry) -> None:
        """Enter the backups into a table that is being rebuilt; a destination out of reach does not prevent it."""
        for destination in self.settings.destinations:
            try:
                rescan(registry, destination)
            except Exception as error:  # noqa: BLE001 - the packages behind a URL may raise anything
                log.warning("The backups could not be looked through: %s", error)

    def after_fork_in_child(self) -> None:
        """Make the lock anew: another thread may have been opening the table."""
        self._guard = threading.RLock()

    def _write_record(self, record: Record) -> None:
        """Let the volume carry its own record. On a full disk the older one stays; the table has the newer."""
        try:
            volume_record.write(self.layout.volume(record.id), lambda: self._own_record(record))
        except FileNotFoundError:
            pass  # pruned: a record lies in each of its backups
        except (OSError, RegistryUnusable) as error:
            log.warning("The record of %r could not be written: %s", record.session, error)

    def _own_record(self, record: Record) -> VolumeRecord:
        """Return what a volume says of itself: what the table has now, as others may have written since."""
        now = self.registry.get(record.id) or record
        return VolumeRecord(
            now.id, now.session, now.kernelspec, now.generation, now.created, now.pinned
        )

    def _emit(self, kind: Kind, record: Record, kernel: str = "", **details: Any) -> None:
        self.events.emit(Event(kind, self.clock(), record.session, record.id, kernel, details))

    def _near(self, session: str) -> str:
        from difflib import get_close_matches

        near = get_close_matches(session, [r.session for r in self.registry.volumes()], 3)
        return f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""


def _as_stopped(record: Record) -> Record:
    return replace(record, state=State.STOPPED, stopped=record.stopped or record.acquired)


def _relieve(layout: Layout) -> bool:
    """Make room on a full disk for the table: what was to be deleted anyway goes now, then the space kept back."""
    return Trash(layout.trash).empty() > 0 or Reserve(layout.root).spend()
