"""All volumes under one root: the one door to them.

Every way into a volume leads through `Pool.acquire`: a name is looked up or entered, the lease is taken, the files
are there (made, or brought back), the record says so; in this order, so that a process killed at any line leaves
nothing that the next acquire does not finish or undo.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from . import lease as leases
from . import volume
from .catalog import Clock, utc_now
from .config import VolumePool
from .errors import Cancelled, DiskFull, PoolDisabled, VolumeError
from .event import Event, Kind, log
from .lease import Holder, Lease, Purpose
from .occupants import occupants, wait_until_gone
from .record import Record
from .refusals import held
from .session import checked
from .upkeep import Upkeep

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

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
    """The uses that this process makes of one volume; all share one lease."""

    lease: Lease
    kernels: list[str] = field(default_factory=list)


class Pool(Upkeep):
    """The volumes under one root.

    One instance serves all threads of a process; its methods block and are called from worker threads.

    Parameters
    ----------
    settings
        The pool's settings.
    clock
        Tells the time.
    on_step
        Called with the name of each step of an acquire or a release before it is taken; for tests that stop the
        process there.
    """

    def __init__(
        self,
        settings: VolumePool,
        clock: Clock = utc_now,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        super().__init__(settings, clock, on_step)
        self._uses: dict[str, _Use] = {}
        self._doors: dict[str, threading.Lock] = {}

    # -- the life of a volume --------------------------------------------------------------------------------

    def acquire(
        self,
        session: str,
        kernelspec: str,
        *,
        kernel: str,
        purpose: Purpose = Purpose.KERNEL,
        cancel: threading.Event | None = None,
    ) -> Acquired:
        """Return the volume of `session`, leased to this process, its files in place.

        Whatever this raises, it has given back what it took. A volume already in use by this process is shared.

        Parameters
        ----------
        session
            A name that `session.choose` accepted.
        kernelspec
            The name of the kernelspec; kept with the volume, for its policy.
        kernel
            The kernel's id, or another name for this use; unique among the uses of the volume.
        purpose
            What the lease is held for.
        cancel
            Ends a wait.

        Raises
        ------
        BadSession, PoolDisabled, RootUnusable, RegistryUnusable, PoolFull, VolumeHeld, DiskFull, Cancelled
            Each with one line that says what to do.
        """
        cancel = cancel or threading.Event()
        began = time.monotonic()
        try:
            checked(session, "the caller")
            while True:
                record, is_new = self._record_for(session, kernelspec, cancel)
                with self._undoing(record, is_new), self._door(record.id, cancel):
                    acquired = self._enter(record, kernelspec, kernel, purpose, cancel, is_new)
                if acquired is not None:
                    waited = time.monotonic() - began
                    self._emit(Kind.ACQUIRED, acquired.record, kernel, new=is_new, waited=waited)
                    return acquired
        except VolumeError as error:
            self._emit_refusal(session, kernel, error)
            raise

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
        """Make all locks anew: other threads may have been entering or leaving volumes."""
        super().after_fork_in_child()
        self._doors = {}

    def kernel_is_up(self, acquired: Acquired, process: int) -> None:
        """Note a kernel's process in the lease, so that others can be told who holds it. Never fails."""
        with self._guard:
            use = self._uses.get(acquired.record.id)
            if use is not None:
                processes = (*use.lease.holder.processes, process)
                use.lease.describe(replace(use.lease.holder, processes=processes))

    # -- the steps of an acquire -----------------------------------------------------------------------------

    def _record_for(
        self, session: str, kernelspec: str, cancel: threading.Event
    ) -> tuple[Record, bool]:
        """Look the session up, or enter it. From here on it takes a place, whoever comes first."""
        if not self.settings.enabled:
            raise PoolDisabled(
                "Volumes are switched off (VolumePool.enabled = False); set it to True, or choose a kernel without one."
            )
        registry = self.registry
        found = registry.find(session)
        if found is not None:
            return found, False
        self._on_step("enter")
        claimed = registry.claim_spare(session, kernelspec, self.clock())
        if claimed is not None:
            return claimed, True
        new_id = volume.new_id()
        entered: list[Record] = []
        self._make_room_for(
            session,
            cancel,
            lambda: entered.append(
                registry.create(
                    new_id, session, kernelspec, self.clock(), self.settings.max_volumes
                )
            ),
        )
        return entered[0], entered[0].id == new_id

    def _enter(
        self,
        record: Record,
        kernelspec: str,
        kernel: str,
        purpose: Purpose,
        cancel: threading.Event,
        is_new: bool,
    ) -> Acquired | None:
        """Take the lease and make the volume ready; None if the volume was renamed or pruned away meanwhile."""
        use = self._uses.get(record.id)
        lease = use.lease if use is not None else self._take_lease(record, kernel, purpose, cancel)
        try:
            self._on_step("leased")
            current = self.registry.get(record.id)
            if current is None and use is None:
                leases.remove(lease)
            if current is None or current.session != record.session:
                if use is None:
                    lease.release()
                return None
            if use is None:
                self._require_nobody_left_behind(record, lease)
            path = self._ready(current, kernel, cancel)
            self._on_step("activate")
            active = self.registry.activate(record.id, kernelspec, self.clock())
            self._on_step("record")
            self._write_record(active)
        except BaseException:
            if use is None:
                lease.release()
            raise
        if use is None:
            use = self._uses[record.id] = _Use(lease)
        else:
            lease.describe(replace(leases.with_kernel(lease.holder, kernel), purpose=purpose))
        use.kernels.append(kernel)
        self._on_step("acquired")
        return Acquired(active, path, lease.fd, kernel, is_new)

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

    def _require_nobody_left_behind(self, record: Record, lease: Lease) -> None:
        """Refuse a volume in which processes of a kernel whose server was killed live on."""
        if lease.previous is None:
            return
        timeout = self.settings.acquire_timeout
        left = wait_until_gone(
            occupants(self.layout.volume(record.id)),
            timeout=0.5 if timeout is None else timeout.total_seconds(),
        )
        if left:
            raise held(record, self._leave_to(lease, tuple(process.pid for process in left)))

    def _ready(self, record: Record, kernel: str, cancel: threading.Event) -> Path:
        """See to it that the volume's files are on disk: there, made, or brought back."""
        self._on_step("files")
        path = self.layout.volume(record.id)
        self._set_stray_files_beside(record)
        if record.generation and not path.exists():
            backup = self.vault.newest(record)
            if backup is None:
                log.warning(
                    "The files of %r are gone and no backup exists; it starts empty.",
                    record.session,
                )
                self._take_place(record, cancel)
            else:
                self._bring_back(
                    record, backup, cancel, self._tell_restore(record, kernel, backup.bytes)
                )
        try:
            volume.make(path)
        except OSError as error:
            if error.errno not in _FULL or not self.reserve.spend():
                raise
            volume.make(path)
        return path

    def _tell_restore(
        self, record: Record, kernel: str, total: int
    ) -> Callable[[int, int | None], None]:
        def tell(done: int, of: int | None) -> None:
            self._emit(Kind.RESTORE_PROGRESS, record, kernel, done=done, total=of or total)

        return tell

    @contextlib.contextmanager
    def _undoing(self, record: Record, is_new: bool) -> Iterator[None]:
        """Around an acquire that may fail: a new volume gives its place back; what the disk says is told plainly."""
        try:
            yield
        except BaseException as error:
            if is_new:
                with contextlib.suppress(VolumeError, OSError):
                    self.put_right(record.id)
                    self.empty_trash_in_background()
            if not isinstance(error, OSError):
                raise
            if error.errno in _FULL:
                raise DiskFull(
                    f"The disk that holds {self.layout.root} is full, so {record.session!r} gets no volume; "
                    "free some space, e.g. `jupyter volumes prune SESSION`."
                ) from error
            raise VolumeError(
                f"The volume of {record.session!r} cannot be used ({error.strerror}: {error.filename}); "
                "move away what is in the way, or make it yours."
            ) from error

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

    # -- processes left behind -------------------------------------------------------------------------------

    def _await_left_behind(self, acquired: Acquired, use: _Use) -> bool:
        """Keep the lease for processes that live on in the volume; return whether there are any."""
        left = occupants(acquired.path)
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
            left = wait_until_gone(left, timeout=60.0) or occupants(acquired.path)
        with self._door(acquired.record.id, threading.Event()):
            if self._uses.get(acquired.record.id) is use and not use.kernels:
                self._leave(acquired.record.id, use)

    # -- small things ----------------------------------------------------------------------------------------

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

    def _emit_refusal(self, session: str, kernel: str, error: VolumeError) -> None:
        details = {"code": error.code, "message": str(error)}
        self.events.emit(Event(Kind.REFUSED, self.clock(), session, kernel=kernel, details=details))


_pools: dict[tuple[str, int], Pool] = {}
_pools_guard = threading.Lock()


def _forget_after_fork() -> None:
    """In a forked child: neither the leases nor the locks of its parent's threads are its own."""
    global _pools_guard
    _pools_guard = threading.Lock()
    for pool in _pools.values():
        pool.abandon()
    _pools.clear()


os.register_at_fork(after_in_child=_forget_after_fork)


def pool_of(settings: VolumePool) -> Pool:
    """Return this process's pool for the root in `settings`; all kernels of a process share leases through it.

    A pool that exists takes over the new settings: an edited configuration file counts from the next kernel on.
    """
    key = (str(settings.root_path), os.getpid())
    with _pools_guard:
        pool = _pools.get(key)
        if pool is None:
            pool = _pools[key] = Pool(settings)
        else:
            pool.settings = settings
        return pool
