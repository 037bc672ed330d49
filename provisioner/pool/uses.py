"""The uses that this process makes of volumes: those of one volume share its lease, and the last gives it back."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from provisioner.core.errors import Cancelled, VolumeError
from provisioner.core.event import Kind
from provisioner.core.record import Record
from provisioner.pool.catalog import Clock, utc_now
from provisioner.pool.custody import Custody
from provisioner.pool.refusals import held
from provisioner.settings.log import log
from provisioner.settings.pool import VolumePool
from provisioner.system import layout as volume
from provisioner.system import lease as leases
from provisioner.system.lease import Holder, Lease, Purpose
from provisioner.system.processes import processes_of, wait_until_gone

_YIELD_SECONDS = 10.0
"""How long an acquire waits for maintenance to give way; it does so within a second."""


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
        return volume.state_directory(self.path)


@dataclass
class _Use:
    """What this process uses one volume for; all uses share one lease."""

    lease: Lease
    kernels: list[str] = field(default_factory=list)


class Uses(Custody):
    """A catalog whose volumes can be in use by this process."""

    def __init__(
        self,
        settings: VolumePool,
        clock: Clock = utc_now,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        self._uses: dict[str, _Use] = {}
        self._doors: dict[str, threading.Lock] = {}
        super().__init__(settings, clock, on_step)

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
        with self._door(volume_id, threading.Event()):
            use = self._uses.get(volume_id)
            if use is None or acquired.kernel not in use.kernels or not use.lease.is_ours:
                return
            self._on_step("release")
            use.kernels.remove(acquired.kernel)
            use.lease.describe(leases.without_kernel(use.lease.holder, acquired.kernel, process))
            if not use.kernels and not self._await_left_behind(acquired, use):
                self._leave(volume_id, use)
        self._emit(Kind.RELEASED, acquired.record, acquired.kernel)

    def abandon(self) -> None:
        """Forget all uses and leave their leases to the process that this one was forked from."""
        for use in self._uses.values():
            use.lease.abandon()
        self._uses.clear()

    def after_fork_in_child(self) -> None:
        """Forget the parent's leases, and make all locks anew: other threads may have held them."""
        super().after_fork_in_child()
        self.abandon()
        self._doors = {}

    def kernel_is_up(self, acquired: Acquired, process: int) -> None:
        """Note a kernel's process in the lease, so that others can be told who holds it. Never fails."""
        with self._guard:
            use = self._uses.get(acquired.record.id)
            if use is not None:
                processes = (*use.lease.holder.processes, process)
                use.lease.describe(replace(use.lease.holder, processes=processes))

    # -- the lease of a use ----------------------------------------------------------------------------------

    def _take_lease(
        self, record: Record, kernel: str, purpose: Purpose, cancel: threading.Event
    ) -> Lease:
        """Take the lease; maintenance gives way, another kernel is waited for as long as the settings say."""
        self._on_step("lease")
        path = self.layout.lease(record.id)
        timeout = self.settings.acquire_timeout
        seconds = 0.0 if timeout is None else timeout.total_seconds()

        def patience(holder: Holder | None) -> float:
            if holder is None or not holder.purpose.yields:
                return seconds
            leases.want(path)
            return max(seconds, _YIELD_SECONDS)

        described = Holder.this_process(purpose, self.clock(), kernel)
        lease = leases.take(path, described, patience=patience, cancel=cancel)
        if lease is None:
            raise held(record, leases.holder_of(path), waited=bool(seconds))
        leases.unwant(path)
        return lease

    def _require_nobody_left_behind(
        self, record: Record, lease: Lease, cancel: threading.Event
    ) -> None:
        """Refuse a volume in which processes of a kernel whose server was killed live on."""
        if lease.previous is None:
            return
        timeout = self.settings.acquire_timeout
        left = wait_until_gone(
            processes_of(self.layout.volume(record.id)),
            timeout=0.5 if timeout is None else timeout.total_seconds(),
            cancel=cancel,
        )
        if not left:
            return
        holder = self._leave_to(lease, tuple(process.pid for process in left))
        if cancel.is_set():
            raise Cancelled("Waiting for a volume was cancelled.")
        raise held(record, holder)

    def _add_use(self, volume_id: str, lease: Lease, kernel: str, purpose: Purpose) -> None:
        """Count a kernel among those that share a volume's lease."""
        use = self._uses.get(volume_id)
        if use is None:
            use = self._uses[volume_id] = _Use(lease)
        else:
            lease.describe(replace(leases.with_kernel(lease.holder, kernel), purpose=purpose))
        use.kernels.append(kernel)

    def _leave(self, volume_id: str, use: _Use) -> None:
        """Record that a volume is stopped, then give its lease back.

        In this order: a record that says active while the lease is free is put right by whoever looks next.
        """
        self._uses.pop(volume_id, None)
        try:
            self._on_step("stop")
            self.registry.deactivate(volume_id, self.clock())
        except VolumeError as error:
            log.warning("A volume was released, but its record says active still: %s", error)
        finally:
            self._on_step("free")
            use.lease.release()

    @contextlib.contextmanager
    def _door(self, volume_id: str, cancel: threading.Event) -> Iterator[None]:
        """Let one thread of this process at a time enter or leave a volume."""
        with self._guard:
            door = self._doors.setdefault(volume_id, threading.Lock())
        while not door.acquire(timeout=0.1):
            if cancel.is_set():
                raise Cancelled("Waiting for a volume was cancelled.")
        try:
            yield
        finally:
            door.release()

    # -- processes left behind -------------------------------------------------------------------------------

    def _await_left_behind(self, acquired: Acquired, use: _Use) -> bool:
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
            target=self._leave_after, args=(acquired, use, left), name="left-behind", daemon=True
        ).start()
        return True

    def _leave_after(self, acquired: Acquired, use: _Use, left: list[Any]) -> None:
        while left:
            # Looked for anew: a kernel that shared the volume may have left others behind meanwhile.
            left = wait_until_gone(left, timeout=60.0) or processes_of(acquired.path)
        with self._door(acquired.record.id, threading.Event()):
            if self._uses.get(acquired.record.id) is use and not use.kernels:
                self._leave(acquired.record.id, use)
