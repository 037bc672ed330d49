"""Volumes leased for maintenance: held as briefly as the work takes, given up as soon as a person asks."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from . import lease as leases
from .catalog import Catalog
from .errors import VolumeHeld
from .lease import Holder, Lease, Purpose
from .occupants import occupants
from .record import Record, State
from .refusals import held

_LOOK_SECONDS = 0.1
"""How often maintenance looks whether a person asks for the volume it works on."""


@dataclass(frozen=True)
class Leased:
    """A volume leased for maintenance: its record as of now, and what tells that a person wants it."""

    record: Record
    lease: Lease
    cancel: threading.Event


class Custody(Catalog):
    """A catalog whose volumes can be leased for maintenance."""

    @contextlib.contextmanager
    def leased(
        self, volume_id: str, purpose: Purpose, cancel: threading.Event | None = None
    ) -> Iterator[Leased]:
        """Hold a volume's lease for maintenance, which ends when `cancel` is set or a person asks for the volume."""
        outer = cancel or threading.Event()
        lease = self._take_free(volume_id, purpose, outer)
        path = lease.path
        leases.unwant(path)
        inner, over = threading.Event(), threading.Event()
        watcher = threading.Thread(
            target=_pass_on, args=(path, purpose, outer, inner, over), daemon=True
        )
        watcher.start()
        try:
            yield Leased(self._record(volume_id), lease, inner)
        finally:
            over.set()
            watcher.join()
            lease.release()

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
            if lease.previous is not None and (left := occupants(self.layout.volume(volume_id))):
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
