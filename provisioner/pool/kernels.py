"""The kernels of this process that use volumes: those of one volume share its lease, and the last gives it back."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from provisioner.core.errors import Cancelled, VolumeError
from provisioner.core.event import Kind
from provisioner.core.record import Record
from provisioner.pool.leases import Leases, held
from provisioner.pool.root import Root
from provisioner.settings.log import log
from provisioner.system import forks
from provisioner.system import lease as leases
from provisioner.system.lease import Holder, Lease, Purpose
from provisioner.system.processes import processes_of, wait_until_gone

if TYPE_CHECKING:
    import psutil

_YIELD_SECONDS = 10.0
"""How long an acquire waits for maintenance to give way; maintenance does so within a second."""

_LEFT_BEHIND_SECONDS = 0.5
"""How long an acquire waits, unless the settings say otherwise, for processes that a killed server left behind."""


@dataclass(frozen=True)
class Acquired:
    """A volume in use by this process: its record as of the acquire, and its directory."""

    record: Record
    path: Path
    lease_fd: int
    """The descriptor that a kernel process inherits to keep the lease."""
    kernel: str
    """The id of the kernel that it was acquired for, or another name for the use."""


class Kernels:
    """What this process uses volumes for: kernels, shells, hydrations by hand. The holder of a lease names them."""

    def __init__(self, root: Root, leases: Leases) -> None:
        self._root = root
        self._leases = leases
        self._guard = threading.Lock()
        self._used: dict[str, Lease] = {}
        self._doors: dict[str, threading.Lock] = {}
        forks.register(self)

    @contextlib.contextmanager
    def door(self, volume_id: str, cancel: threading.Event | None = None) -> Iterator[None]:
        """Let one thread of this process at a time start or end its use of a volume."""
        with self._guard:
            door = self._doors.setdefault(volume_id, threading.Lock())
        while not door.acquire(timeout=0.1):
            if cancel is not None and cancel.is_set():
                raise Cancelled("Waiting for a volume was cancelled.")
        try:
            yield
        finally:
            door.release()

    def lease(self, volume_id: str) -> Lease | None:
        """Return the lease that kernels of this process share; None if they do not use the volume."""
        return self._used.get(volume_id)

    def take_lease(
        self, record: Record, kernel: str, purpose: Purpose, cancel: threading.Event
    ) -> Lease:
        """Take the lease. Maintenance gives way; another kernel is waited for as long as the settings say.

        Raises
        ------
        VolumeHeld, Cancelled
            The volume stays in use by another process, or `cancel` was set.
        """
        self._root.on_step("lease")
        path = self._root.layout.lease(record.id)
        seconds = self._acquire_seconds(0.0)

        def patience(holder: Holder | None) -> float:
            if holder is None or not holder.purpose.yields:
                return seconds
            leases.want(path)
            return max(seconds, _YIELD_SECONDS)

        described = Holder.this_process(purpose, self._root.clock(), kernel)
        lease = leases.take(path, described, patience=patience, cancel=cancel)
        if lease is None:
            raise held(record, leases.holder_of(path), waited=bool(seconds))
        leases.unwant(path)
        return lease

    def require_nothing_left_behind(
        self, record: Record, lease: Lease, cancel: threading.Event
    ) -> None:
        """See `Leases.require_nothing_left_behind`; waits as long as the settings say."""
        seconds = self._acquire_seconds(_LEFT_BEHIND_SECONDS)
        self._leases.require_nothing_left_behind(record, lease, seconds, cancel)

    def add(self, volume_id: str, lease: Lease, kernel: str, purpose: Purpose) -> None:
        """Count a kernel among those that share a volume's lease."""
        with self._guard:  # the holder is read and written anew, by `is_up` too
            if volume_id in self._used:
                lease.describe(
                    replace(lease.holder, kernels=(*lease.holder.kernels, kernel), purpose=purpose)
                )
            self._used[volume_id] = lease

    def is_up(self, acquired: Acquired, process: int) -> None:
        """Note a kernel's process in the lease, so that others can see what holds it. Never fails."""
        with self._guard:
            lease = self._used.get(acquired.record.id)
            if lease is not None:
                processes = (*lease.holder.processes, process)
                lease.describe(replace(lease.holder, processes=processes))

    def release(self, acquired: Acquired, process: int | None = None) -> None:
        """Give a volume back; the last use of this process gives the lease back. Calling it twice is harmless.

        Called when a kernel has ended. Processes that it left behind keep the volume leased until they end, as long
        as this process lives; after that, the next acquire finds them.

        Parameters
        ----------
        acquired
            What `acquire` returned.
        process
            The kernel's process, which has ended.
        """
        volume_id = acquired.record.id
        with self.door(volume_id):
            lease = self._used.get(volume_id)
            if lease is None or acquired.kernel not in lease.holder.kernels:
                return
            self._root.on_step("release")
            with self._guard:
                lease.describe(leases.without_kernel(lease.holder, acquired.kernel, process))
            if not lease.holder.kernels and not self._wait_for_processes_of(acquired, lease):
                self._give_back(volume_id, lease)
        self._root.emit(Kind.RELEASED, acquired.record, acquired.kernel)

    def after_fork_in_child(self) -> None:
        """Forget the parent's leases, and replace all locks: other threads may have held them."""
        self._used.clear()
        self._guard = threading.Lock()
        self._doors = {}

    def _acquire_seconds(self, otherwise: float) -> float:
        timeout = self._root.settings.acquire_timeout
        return otherwise if timeout is None else timeout.total_seconds()

    def _give_back(self, volume_id: str, lease: Lease) -> None:
        """Record that a volume is stopped, then give its lease back.

        In this order: a record that says active while the lease is free is shown as stopped, and the next sweep
        corrects it.
        """
        self._used.pop(volume_id, None)
        try:
            self._root.on_step("stop")
            self._root.registry.volumes.deactivate(volume_id, self._root.clock())
        except VolumeError as error:
            log.warning("A volume was released, but its record says active still: %s", error)
        finally:
            self._root.on_step("free")
            lease.release()

    # -- processes left behind -------------------------------------------------------------------------------

    def _wait_for_processes_of(self, acquired: Acquired, lease: Lease) -> bool:
        """Keep the lease for processes that live on in the volume; return whether there are any."""
        left = processes_of(acquired.path)
        if not left:
            return False
        pids = tuple(process.pid for process in left)
        log.warning(
            "The kernel of %r has ended and left processes behind (%s); its volume stays in use until they end.",
            acquired.record.session,
            ", ".join(map(str, pids)),
        )
        with self._guard:
            lease.describe(replace(lease.holder, purpose=Purpose.LEFT_BEHIND, processes=pids))
        threading.Thread(
            target=self._give_back_after, args=(acquired, lease, left), daemon=True
        ).start()
        return True

    def _give_back_after(
        self, acquired: Acquired, lease: Lease, left: list[psutil.Process]
    ) -> None:
        while left:
            # Looked for anew: a kernel that shared the volume may have left others behind meanwhile.
            left = wait_until_gone(left, timeout=60.0) or processes_of(acquired.path)
        with self.door(acquired.record.id):
            if self._used.get(acquired.record.id) is lease and not lease.holder.kernels:
                self._give_back(acquired.record.id, lease)
