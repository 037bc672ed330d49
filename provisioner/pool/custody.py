"""Volumes leased for maintenance, or renamed: held as briefly as it takes, given up as soon as a person asks."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from provisioner.core.errors import VolumeHeld
from provisioner.core.event import Kind
from provisioner.core.record import Record, State
from provisioner.core.session import checked
from provisioner.pool.catalog import Catalog
from provisioner.pool.refusals import held
from provisioner.system import lease as leases
from provisioner.system.lease import Holder, Lease, Purpose
from provisioner.system.processes import processes_of

_LOOK_SECONDS = 0.1
"""How often maintenance looks whether a person asks for the volume it works on."""


@dataclass(frozen=True)
class Leased:
    """A volume leased for maintenance: its record as of now, and what tells that a person wants it."""

    record: Record
    lease: Lease
    cancel: threading.Event


class Custody(Catalog):
    """A catalog whose volumes can be leased for maintenance and given other names."""

    @contextlib.contextmanager
    def leased(
        self, volume_id: str, purpose: Purpose, cancel: threading.Event | None = None
    ) -> Iterator[Leased]:
        """Hold a volume's lease for maintenance, which ends when `cancel` is set or a person asks for the volume."""
        outer = cancel or threading.Event()
        lease = self._take_free(volume_id, purpose, outer)
        try:
            leases.unwant(lease.path)
            with _passing_on(lease.path, purpose, outer) as inner:
                yield Leased(self._record(volume_id), lease, inner)
        finally:
            lease.release()

    # -- naming ----------------------------------------------------------------------------------------------

    def rename(self, old: str, new: str) -> Record | None:
        """Give the volume of session `old` the name `new`; None if there is none, or `new` is in use.

        A stopped volume that bears the new name (its notebook was deleted or overwritten) is not lost: it is
        renamed `<new> (2)`.

        Raises
        ------
        BadSession
            If the new name cannot be a session's.
        """
        record = self.registry.find(old)
        return None if record is None else self.relabel(record.id, new)

    def relabel(self, volume_id: str, session: str) -> Record | None:
        """Give a volume a new name; None if another volume in use bears it.

        A stopped volume that bears it gets another name in the same transaction, under its lease: a kernel that is
        started in it at that moment either comes first, and keeps the name, or looks again who bears it now.

        Raises
        ------
        BadSession
            If it cannot be a session's name.
        """
        checked(session, "its new name")
        while True:
            occupant = self.registry.find(session)
            if occupant is None or occupant.id == volume_id:
                return self._relabel(volume_id, session)
            try:
                lease = self._take_free(occupant.id, Purpose.RENAME, threading.Event())
            except VolumeHeld:
                if self.registry.get(occupant.id) is None:
                    continue
                return None
            try:
                return self._relabel(volume_id, session, occupant)
            finally:
                lease.release()

    def _relabel(
        self, volume_id: str, session: str, occupant: Record | None = None
    ) -> Record | None:
        record = self.registry.relabel(
            volume_id, session, self.clock(), aside=None if occupant is None else occupant.id
        )
        if record is not None:
            self._write_record(record)
            if occupant is not None:
                self._write_record(occupant)
            self._emit(Kind.RELABELLED, record)
        return record

    # -- leases ----------------------------------------------------------------------------------------------

    def _take_free(self, volume_id: str, purpose: Purpose, cancel: threading.Event) -> Lease:
        """Take the lease of a volume that nobody uses, or refuse (`VolumeHeld`); waits for nobody."""
        record = self._known(volume_id)
        path = self.layout.lease(volume_id)
        lease = leases.take(
            path,
            Holder.this_process(purpose, self.clock()),
            patience=lambda holder: 0.0,
            cancel=cancel,
        )
        if lease is None:
            raise held(record, leases.holder_of(path))
        try:
            if lease.previous is not None and (left := processes_of(self.layout.volume(volume_id))):
                found = tuple(process.pid for process in left)
                raise held(record, self._leave_to(lease, found))
        except BaseException:
            lease.abandon()
            raise
        return lease

    @staticmethod
    def _leave_to(lease: Lease, processes: tuple[int, ...]) -> Holder:
        """Give back the lease of a volume in which processes live on; its file goes on telling of them."""
        assert lease.previous is not None
        holder = replace(lease.previous, purpose=Purpose.LEFT_BEHIND, processes=processes)
        lease.describe(holder)
        lease.abandon()
        return holder

    def _record(self, volume_id: str) -> Record:
        """Return the record of a volume whose lease this process holds: whatever it says, nobody uses it."""
        record = self._known(volume_id)
        if record.state is State.ACTIVE:
            record = self.registry.deactivate(volume_id, self.clock())
        return record

    def _known(self, volume_id: str) -> Record:
        record = self.registry.get(volume_id)
        if record is None:
            raise VolumeHeld(
                f"The volume {volume_id} was deleted meanwhile; list the volumes again."
            )
        return record


@contextlib.contextmanager
def _passing_on(path: Path, purpose: Purpose, outer: threading.Event) -> Iterator[threading.Event]:
    """Give an event that is set as soon as the work is to end."""
    inner, over = threading.Event(), threading.Event()
    watcher = threading.Thread(
        target=_pass_on, args=(path, purpose, outer, inner, over), daemon=True
    )
    watcher.start()
    try:
        yield inner
    finally:
        over.set()
        watcher.join()


def _pass_on(
    path: Path,
    purpose: Purpose,
    outer: threading.Event,
    inner: threading.Event,
    over: threading.Event,
) -> None:
    """Set `inner` as soon as `outer` is set or somebody wants the lease of yielding work, until `over` is set."""
    while not over.wait(_LOOK_SECONDS):
        if outer.is_set() or (purpose.yields and leases.is_wanted(path)):
            inner.set()
            return
