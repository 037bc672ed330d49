"""Leases held for maintenance: as briefly as possible, and given up as soon as a person asks for the volume."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from provisioner.core.errors import VolumeHeld
from provisioner.core.record import Record, State
from provisioner.pool.refusals import held
from provisioner.pool.root import Root
from provisioner.system import lease as leases
from provisioner.system.lease import Holder, Lease, Purpose
from provisioner.system.processes import processes_of

_LOOK_SECONDS = 0.1
"""How often maintenance checks whether a person asks for the volume it works on."""


@dataclass(frozen=True)
class Leased:
    """A volume leased for maintenance.

    Parameters
    ----------
    record
        The volume's record as of the lease.
    lease
        The lease.
    cancel
        Set when the caller cancels the work or a person asks for the volume.
    """

    record: Record
    lease: Lease
    cancel: threading.Event


class Leases:
    """The leases of the volumes under one root.

    Parameters
    ----------
    root
        The root, which all parts of the pool share.
    """

    def __init__(self, root: Root) -> None:
        self._root = root

    @contextlib.contextmanager
    def maintenance(
        self, volume_id: str, purpose: Purpose, cancel: threading.Event | None = None
    ) -> Iterator[Leased]:
        """Hold a volume's lease for maintenance.

        The work has to end when `cancel` is set or, where the purpose yields, when a person asks for the volume.

        Raises
        ------
        VolumeHeld
            If the volume is in use, or was deleted.
        """
        outer = cancel or threading.Event()
        lease = self.take_free(volume_id, purpose, outer)
        try:
            leases.unwant(lease.path)
            with _cancelled_by_demand(lease.path, purpose, outer) as inner:
                yield Leased(self.settled(volume_id), lease, inner)
        finally:
            lease.release()

    def take_free(self, volume_id: str, purpose: Purpose, cancel: threading.Event) -> Lease:
        """Take the lease of a volume that is not in use, without waiting.

        Raises
        ------
        VolumeHeld
            If the volume is in use, or was deleted.
        """
        record = self.known(volume_id)
        path = self._root.layout.lease(volume_id)
        holder = Holder.this_process(purpose, self._root.clock())
        lease = leases.take(path, holder, patience=lambda _: 0.0, cancel=cancel)
        if lease is None:
            raise held(record, leases.holder_of(path))
        try:
            left = processes_of(self._root.layout.volume(volume_id)) if lease.previous else []
            if left:
                raise held(record, leave_to(lease, tuple(process.pid for process in left)))
        except BaseException:
            lease.abandon()
            raise
        return lease

    def is_held(self, record: Record) -> bool:
        """Whether any process holds the volume's lease."""
        return leases.is_held(self._root.layout.lease(record.id))

    def holder(self, record: Record) -> Holder | None:
        """Return what holds a volume, processes that a kernel left behind included; None if nothing known does."""
        last = leases.holder_of(self._root.layout.lease(record.id))
        if last is None or self.is_held(record):
            return last
        left = (
            processes_of(self._root.layout.volume(record.id))
            if record.state is State.ACTIVE
            else []
        )
        if not left:
            return None
        pids = tuple(process.pid for process in left)
        return replace(last, purpose=Purpose.LEFT_BEHIND, processes=pids)

    def known(self, volume_id: str) -> Record:
        """Return the record of a volume.

        Raises
        ------
        VolumeHeld
            If the volume was deleted.
        """
        record = self._root.registry.volumes.get(volume_id)
        if record is None:
            raise VolumeHeld(
                f"The volume {volume_id} was deleted meanwhile; list the volumes again."
            )
        return record

    def settled(self, volume_id: str) -> Record:
        """Return the record of a volume whose lease this process holds, which is therefore not in use."""
        record = self.known(volume_id)
        if record.state is State.ACTIVE:
            return self._root.registry.volumes.deactivate(volume_id, self._root.clock())
        return record

    def remove_unknown(self, volume_id: str) -> None:
        """Delete the file of a lease that is not held, if the table does not know its volume."""
        lease = leases.take(
            self._root.layout.lease(volume_id),
            Holder.this_process(Purpose.PRUNE, self._root.clock()),
            patience=lambda _: 0.0,
            cancel=threading.Event(),
        )
        if lease is None:
            return
        if self._root.registry.volumes.get(volume_id) is None:
            leases.remove(lease)
        else:
            lease.release()


def leave_to(lease: Lease, processes: tuple[int, ...]) -> Holder:
    """Give back the lease of a volume in which processes live on; its file goes on naming them."""
    assert lease.previous is not None
    holder = replace(lease.previous, purpose=Purpose.LEFT_BEHIND, processes=processes)
    lease.describe(holder)
    lease.abandon()
    return holder


@contextlib.contextmanager
def _cancelled_by_demand(
    path: Path, purpose: Purpose, outer: threading.Event
) -> Iterator[threading.Event]:
    """Yield an event that is set when `outer` is, or when a person asks for the lease of work that yields."""
    inner, over = threading.Event(), threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK_SECONDS):
            if outer.is_set() or (purpose.yields and leases.is_wanted(path)):
                inner.set()
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield inner
    finally:
        over.set()
        watcher.join()
