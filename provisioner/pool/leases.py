"""The leases: who holds a volume, and maintenance, which gives way as soon as a person asks for the volume."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from provisioner.core.errors import Cancelled, VolumeHeld
from provisioner.core.record import Record, State
from provisioner.pool.root import Root
from provisioner.system import lease as leases
from provisioner.system.lease import Holder, Lease, Purpose
from provisioner.system.processes import processes_of, wait_until_gone

_LOOK_SECONDS = 0.1
"""How often maintenance checks whether a person asks for the volume it works on."""


@dataclass(frozen=True)
class Leased:
    """A volume leased for maintenance, with its record as of the lease.

    `cancel` is set when the caller cancels the work or a person asks for the volume.
    """

    record: Record
    lease: Lease
    cancel: threading.Event


class Leases:
    """The leases of the volumes under one root."""

    def __init__(self, root: Root) -> None:
        self._root = root

    @contextlib.contextmanager
    def maintenance(
        self, volume_id: str, purpose: Purpose, cancel: threading.Event | None = None
    ) -> Iterator[Leased]:
        """Hold a volume's lease for maintenance; `VolumeHeld` if the volume is in use or was deleted.

        The work has to end when `cancel` is set or, where the purpose yields, when a person asks for the volume.
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
        """Take the lease of a volume without waiting; `VolumeHeld` if the volume is in use or was deleted."""
        record = self._known(volume_id)
        lease = self._try(volume_id, purpose, cancel)
        if lease is None:
            raise held(record, leases.holder_of(self._root.layout.lease(volume_id)))
        try:
            self._known(volume_id)
        except VolumeHeld:
            # Deleted a moment ago, with the lease's file, which was then made anew.
            leases.remove(lease)
            raise
        try:
            self.require_nothing_left_behind(record, lease, 0.0, cancel)
        except BaseException:
            lease.abandon()
            raise
        return lease

    def require_nothing_left_behind(
        self, record: Record, lease: Lease, seconds: float, cancel: threading.Event
    ) -> None:
        """Refuse a volume in which processes live on that a kernel of a killed server started.

        Its lease is then given back, and the lease's file goes on naming them.

        Raises
        ------
        VolumeHeld, Cancelled
            The processes do not end within these seconds, or `cancel` was set.
        """
        if lease.previous is None:
            return
        left = processes_of(self._root.layout.volume(record.id))
        if left and seconds:
            left = wait_until_gone(left, seconds, cancel)
        if left:
            pids = tuple(process.pid for process in left)
            holder = replace(lease.previous, purpose=Purpose.LEFT_BEHIND, processes=pids)
            lease.describe(holder)
            lease.abandon()
            if cancel.is_set():
                raise Cancelled("Waiting for a volume was cancelled.")
            raise held(record, holder)

    def is_held(self, record: Record) -> bool:
        """Whether any process holds the volume's lease."""
        return leases.is_held(self._root.layout.lease(record.id))

    def holder(self, record: Record) -> Holder | None:
        """Return what holds a volume, processes that a kernel left behind included; None if nothing known does."""
        last = leases.holder_of(self._root.layout.lease(record.id))
        if last is None or self.is_held(record):
            return last
        if record.state is State.ACTIVE and (
            left := processes_of(self._root.layout.volume(record.id))
        ):
            pids = tuple(process.pid for process in left)
            return replace(last, purpose=Purpose.LEFT_BEHIND, processes=pids)
        return None

    def settled(self, volume_id: str) -> Record:
        """Return the record of a volume whose lease this process holds, which is therefore not in use."""
        record = self._known(volume_id)
        if record.state is State.ACTIVE:
            return self._root.registry.volumes.deactivate(volume_id, self._root.clock())
        return record

    def remove_unknown(self, volume_id: str) -> None:
        """Delete the file of a lease that is not held, if the table does not know its volume."""
        lease = self._try(volume_id, Purpose.PRUNE, threading.Event())
        if lease is not None:
            known = self._root.registry.volumes.get(volume_id)
            lease.release() if known else leases.remove(lease)

    def _known(self, volume_id: str) -> Record:
        record = self._root.registry.volumes.get(volume_id)
        if record is None:
            raise VolumeHeld(
                f"The volume {volume_id} was deleted meanwhile; list the volumes again."
            )
        return record

    def _try(self, volume_id: str, purpose: Purpose, cancel: threading.Event) -> Lease | None:
        path = self._root.layout.lease(volume_id)
        holder = Holder.this_process(purpose, self._root.clock())
        return leases.take(path, holder, patience=lambda _: 0.0, cancel=cancel)


def held(record: Record, holder: Holder | None, waited: bool = False) -> VolumeHeld:
    """Return the refusal of a volume that another process holds: what holds it, and what to do."""
    who = str(holder) if holder else "another process"
    after = " (waited for acquire_timeout)" if waited else ""
    return VolumeHeld(
        f"The volume of session {record.session!r} is in use by {who}{after}; end that use, "
        "set VolumePool.acquire_timeout to wait for it, or work in another volume: "
        '"volume": {"session": "NAME"} in the notebook\'s metadata, or JUPYTER_VOLUME_SESSION for a batch run.'
    )


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
