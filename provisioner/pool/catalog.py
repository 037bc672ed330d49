"""The volumes as names and records: found, listed, renamed, pinned."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path

from provisioner.core.errors import RegistryUnusable, VolumeHeld, VolumeNotFound
from provisioner.core.event import Kind
from provisioner.core.policy import Due, due
from provisioner.core.record import Record, Spare, State
from provisioner.core.session import checked
from provisioner.pool.leases import Leases
from provisioner.pool.root import Root
from provisioner.settings.log import log
from provisioner.system import layout, volume_record
from provisioner.system.lease import Purpose
from provisioner.system.processes import processes_of, volumes_with_processes


@dataclass(eq=False)
class Catalog:
    """Finds, lists and names the volumes under one root."""

    _root: Root
    _leases: Leases

    def find(self, session: str) -> Record:
        """Return the volume of a session, by its name, a former name, or its id (`VolumeNotFound`)."""
        registry = self._root.registry
        record = (
            registry.names.find(session)
            or registry.names.find_former(session)
            or registry.volumes.get(session)
        )
        if record is None:
            near = get_close_matches(session, [r.session for r in registry.volumes.all()], 3)
            meant = f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""
            raise VolumeNotFound(
                f"No volume has the session {session[:200]!r}{meant}; `jupyter volumes list` shows all."
            )
        return self.observed(record)

    def get(self, volume_id: str) -> Record | None:
        """Return the volume with this id as the table has it; None if there is none."""
        return self._root.registry.volumes.get(volume_id)

    def volumes(self) -> list[Record]:
        """Return all volumes, each in the state that its lease and the processes in it show."""
        records = self._root.registry.volumes.all()
        unheld = {str(self.path(record)) for record in records if self._is_unheld(record)}
        if unheld:
            unheld -= volumes_with_processes().keys()
        return [_as_stopped(r) if str(self.path(r)) in unheld else r for r in records]

    def observed(self, record: Record) -> Record:
        """Return a record with the state that the lease shows, which is the truth about "in use"."""
        if self._is_unheld(record) and not processes_of(self.path(record)):
            return _as_stopped(record)
        return record

    def spares(self, kernelspec: str | None = None) -> list[Record]:
        """Return the spares of a kernelspec, or all, oldest first."""
        return self._root.registry.spares.all(kernelspec)

    def to_do(self, now: datetime) -> list[Record]:
        """Return the volumes for which a backup or a prune may be due; reads two partial indices of the table."""
        policies = self._root.settings.policies()
        prune = [p.prune_after for p in policies if p.prune_after is not None]
        backup = [p.backup_after for p in policies if p.backup_after is not None]
        found: list[Record] = []
        if prune or backup:
            found += self._root.registry.volumes.to_back_up(now - min(prune + backup), now)
        if prune:
            found += self._root.registry.volumes.to_prune(now - min(prune))
        return found

    def due(self, record: Record) -> Due:
        """Return when a volume is backed up and pruned next, if it is not used before."""
        return due(record, self._root.settings.policy(record.kernelspec))

    def path(self, record: Record) -> Path:
        """Return the directory of a volume."""
        return self._root.layout.volume(record.id)

    def names_of(self, path: str) -> frozenset[str]:
        """Return all names, former ones too, of the volume that is the directory `path`; none if it is no volume."""
        if not path or Path(path).parent != self._root.layout.volumes:
            return frozenset()
        return frozenset(self._root.registry.names.of(Path(path).name))

    # -- changing what is known of a volume ------------------------------------------------------------------

    def pin(self, volume_id: str, pinned: bool) -> Record:
        """Pin a volume, so that it is never pruned or evicted, or unpin it."""
        record = self._root.registry.volumes.set_pinned(volume_id, pinned)
        self.write_record(record)
        return self.observed(record)

    def note(self, volume_id: str, note: str) -> None:
        """Keep a remark that people see in lists, such as that the notebook was deleted."""
        self._root.registry.volumes.set_note(volume_id, note)

    def new_spare(self, kernelspec: str, wanted: int) -> Record | None:
        """Enter a spare that is about to be made (`PoolFull`); None if the kernelspec has as many as wanted."""
        now, slots = self._root.clock(), self._root.settings.max_volumes
        return self._root.registry.spares.create(layout.new_id(), kernelspec, now, wanted, slots)

    def spare_is_ready(self, volume_id: str) -> None:
        """Record that sessions can claim a spare."""
        self._root.registry.spares.set(volume_id, Spare.READY)

    def relabel(self, volume_id: str, session: str) -> Record | None:
        """Give a volume a new name; None if another volume in use has it, `BadSession` if it is no session's name.

        A stopped volume that has it (its notebook was deleted or overwritten) is not lost: it is renamed
        `<session> (2)` in the same transaction, under its lease. A kernel that is started in it at that moment either
        comes first, and keeps the name, or looks the name up again.
        """
        checked(session, "its new name")
        while True:
            other = self._root.registry.names.find(session)
            if other is None or other.id == volume_id:
                return self._relabel(volume_id, session)
            try:
                lease = self._leases.take_free(other.id, Purpose.RENAME, threading.Event())
            except VolumeHeld:
                if self._root.registry.volumes.get(other.id) is None:
                    continue
                return None
            try:
                return self._relabel(volume_id, session, other)
            finally:
                lease.release()

    def write_record(self, record: Record) -> None:
        """Let the volume carry its own record. On a full disk the older one stays; the table has the newer."""
        try:
            volume_record.write(self.path(record), lambda: self._own_record(record))
        except FileNotFoundError:
            pass  # pruned: a record lies in each of its backups
        except (OSError, RegistryUnusable) as error:
            log.warning("The record of %r could not be written: %s", record.session, error)

    def _relabel(self, volume_id: str, session: str, other: Record | None = None) -> Record | None:
        record = self._root.registry.names.relabel(
            volume_id, session, self._root.clock(), aside=None if other is None else other.id
        )
        if record is not None:
            self.write_record(record)
            if other is not None:
                self.write_record(other)
            self._root.emit(Kind.RELABELLED, record)
        return record

    def _own_record(self, record: Record) -> volume_record.VolumeRecord:
        """Return what a volume says of itself: what the table has now, as other processes may have written since."""
        now = self._root.registry.volumes.get(record.id) or record
        return volume_record.VolumeRecord(
            now.id, now.session, now.kernelspec, now.generation, now.created, now.pinned
        )

    def _is_unheld(self, record: Record) -> bool:
        """Whether a volume's kernel has ended without a record of it; processes of the kernel may live on in it."""
        return record.state is State.ACTIVE and not self._leases.is_held(record)


def _as_stopped(record: Record) -> Record:
    return replace(record, state=State.STOPPED, stopped=record.stopped or record.acquired)
