"""The kernels of this process that use volumes: those of one volume share its lease, and the last gives it back."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from provisioner.core.errors import Cancelled, VolumeError
from provisioner.core.record import Record
from provisioner.pool.leases import leave_to
from provisioner.pool.refusals import held
from provisioner.pool.root import Root
from provisioner.settings.log import log
from provisioner.system import forks
from provisioner.system import lease as leases
from provisioner.system.layout import state_directory
from provisioner.system.lease import Holder, Lease, Purpose
from provisioner.system.processes import processes_of, wait_until_gone

if TYPE_CHECKING:
    import psutil

_YIELD_SECONDS = 10.0
"""How long an acquire waits for maintenance to give way; maintenance does so within a second."""


@dataclass(frozen=True)
class Acquired:
    """A volume in use by this process.

    Parameters
    ----------
    record
        The volume's record as of the acquire.
    path
        Its directory.
    lease_fd
        The descriptor that a kernel process inherits to keep the lease.
    kernel
        The id of the kernel that it was acquired for, or another name for the use.
    is_new
        Whether the volume was made by this acquire.
    """

    record: Record
    path: Path
    lease_fd: int
    kernel: str
    is_new: bool = False

    @property
    def state_directory(self) -> Path:
        """The directory inside the volume for its environment and records."""
        return state_directory(self.path)


@dataclass
class _Use:
    """What this process uses one volume for."""

    lease: Lease
    kernels: list[str] = field(default_factory=list)


class Kernels:
    """What this process uses volumes for: kernels, shells, hydrations by hand.

    Parameters
    ----------
    root
        The root, which all parts of the pool share.
    """

    def __init__(self, root: Root) -> None:
        self._root = root
        self._guard = threading.Lock()
        self._uses: dict[str, _Use] = {}
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
        use = self._uses.get(volume_id)
        return None if use is None else use.lease

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
        """Refuse a volume in which processes live on that a kernel of a killed server started.

        Raises
        ------
        VolumeHeld, Cancelled
            The processes do not end within the time that the settings give, or `cancel` was set.
        """
        if lease.previous is None:
            return
        left = wait_until_gone(
            processes_of(self._root.layout.volume(record.id)),
            timeout=self._acquire_seconds(0.5),
            cancel=cancel,
        )
        if not left:
            return
        holder = leave_to(lease, tuple(process.pid for process in left))
        if cancel.is_set():
            raise Cancelled("Waiting for a volume was cancelled.")
        raise held(record, holder)

    def add(self, volume_id: str, lease: Lease, kernel: str, purpose: Purpose) -> None:
        """Count a kernel among those that share a volume's lease."""
        use = self._uses.get(volume_id)
        if use is None:
            use = self._uses[volume_id] = _Use(lease)
        else:
            lease.describe(replace(leases.with_kernel(lease.holder, kernel), purpose=purpose))
        use.kernels.append(kernel)

    def is_up(self, acquired: Acquired, process: int) -> None:
        """Note a kernel's process in the lease, so that others can see what holds it. Never fails."""
        with self._guard:
            use = self._uses.get(acquired.record.id)
            if use is not None:
                processes = (*use.lease.holder.processes, process)
                use.lease.describe(replace(use.lease.holder, processes=processes))

    def remove(self, acquired: Acquired, process: int | None) -> bool:
        """End one use of a volume; return whether it was one. The last use gives the lease back.

        Processes that the kernel left behind keep the volume leased until they end, as long as this process lives;
        after that, the next acquire finds them.
        """
        volume_id = acquired.record.id
        with self.door(volume_id):
            use = self._uses.get(volume_id)
            if use is None or acquired.kernel not in use.kernels or not use.lease.is_ours:
                return False
            self._root.on_step("release")
            use.kernels.remove(acquired.kernel)
            use.lease.describe(leases.without_kernel(use.lease.holder, acquired.kernel, process))
            if not use.kernels and not self._wait_for_processes_of(acquired, use):
                self._give_back(volume_id, use)
        return True

    def after_fork_in_child(self) -> None:
        """Forget the parent's leases, and replace all locks: other threads may have held them."""
        self._uses.clear()
        self._guard = threading.Lock()
        self._doors = {}

    def _acquire_seconds(self, otherwise: float) -> float:
        timeout = self._root.settings.acquire_timeout
        return otherwise if timeout is None else timeout.total_seconds()

    def _give_back(self, volume_id: str, use: _Use) -> None:
        """Record that a volume is stopped, then give its lease back.

        In this order: a record that says active while the lease is free is shown as stopped, and the next sweep
        corrects it.
        """
        self._uses.pop(volume_id, None)
        try:
            self._root.on_step("stop")
            self._root.registry.volumes.deactivate(volume_id, self._root.clock())
        except VolumeError as error:
            log.warning("A volume was released, but its record says active still: %s", error)
        finally:
            self._root.on_step("free")
            use.lease.release()

    # -- processes left behind -------------------------------------------------------------------------------

    def _wait_for_processes_of(self, acquired: Acquired, use: _Use) -> bool:
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
        use.lease.describe(replace(use.lease.holder, purpose=Purpose.LEFT_BEHIND, processes=pids))
        threading.Thread(
            target=self._give_back_after,
            args=(acquired, use, left),
            name="left-behind",
            daemon=True,
        ).start()
        return True

    def _give_back_after(self, acquired: Acquired, use: _Use, left: list[psutil.Process]) -> None:
        while left:
            # Looked for anew: a kernel that shared the volume may have left others behind meanwhile.
            left = wait_until_gone(left, timeout=60.0) or processes_of(acquired.path)
        with self.door(acquired.record.id):
            if self._uses.get(acquired.record.id) is use and not use.kernels:
                self._give_back(acquired.record.id, use)
