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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from . import lease as leases
from . import recovery, volume
from .config import VolumePool
from .errors import (
    Cancelled,
    DiskFull,
    PoolDisabled,
    PoolFull,
    RegistryUnusable,
    VolumeError,
    VolumeHeld,
    VolumeNotFound,
)
from .event import Event, Hub, Kind, log
from .lease import Holder, Lease, Purpose
from .occupants import occupants, wait_until_gone
from .registry import Record, Registry, State
from .reserve import Reserve
from .root import prepare
from .volume import Layout, VolumeRecord

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the time; the default clock."""
    return datetime.now(timezone.utc)


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


class Pool:
    """The volumes under one root.

    One instance serves all threads of a process; its methods block and are called from worker threads.

    Parameters
    ----------
    settings
        The pool's settings.
    clock
        Tells the time.
    on_step
        Called with the name of each step of an acquire before it is taken; for tests that stop the process there.
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
        self._uses: dict[str, _Use] = {}
        self._doors: dict[str, threading.Lock] = {}
        self._opened: tuple[Layout, Registry] | None = None

    def __repr__(self) -> str:
        return f"<Pool {self.settings.summary()}>"

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
        PoolDisabled, RootUnusable, RegistryUnusable, PoolFull, VolumeHeld, DiskFull, Cancelled
            Each with one line that says what to do.
        """
        cancel = cancel or threading.Event()
        try:
            while True:
                record, is_new = self._record_for(session, kernelspec)
                with self._door(record.id, cancel):
                    acquired = self._enter(record, kernelspec, kernel, purpose, cancel, is_new)
                if acquired is not None:
                    self._emit(Kind.ACQUIRED, acquired.record, kernel, new=is_new)
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
            if use is None or acquired.kernel not in use.kernels:
                return
            use.kernels.remove(acquired.kernel)
            use.lease.describe(leases.without_kernel(use.lease.holder, acquired.kernel, process))
            if use.kernels:
                return
            if not self._await_left_behind(acquired, use):
                self._leave(volume_id, use)
        self._emit(Kind.RELEASED, acquired.record, acquired.kernel)

    def kernel_is_up(self, acquired: Acquired, process: int) -> None:
        """Note a kernel's process in the lease, so that others can be told who holds it. Never fails."""
        with self._guard:
            use = self._uses.get(acquired.record.id)
            if use is not None:
                processes = (*use.lease.holder.processes, process)
                use.lease.describe(replace(use.lease.holder, processes=processes))

    def rename(self, old: str, new: str) -> Record | None:
        """Give the volume of session `old` the name `new`; None if there is none, or `new` is in use.

        A stopped volume that bears the new name (its notebook was deleted or overwritten) is not lost: it is
        renamed `<new> (2)`.
        """
        record = self.registry.find(old)
        return None if record is None else self.relabel(record.id, new)

    def relabel(self, volume_id: str, session: str) -> Record | None:
        """Give a volume a new name; None if another volume in use bears it."""
        occupant = self.registry.find(session)
        if occupant is not None and occupant.id != volume_id:
            if self.is_in_use(occupant):
                return None
            self._move_name_away(occupant)
        record = self.registry.relabel(volume_id, session, self.clock())
        if record is not None:
            self._write_record(record)
            self._emit(Kind.RELABELLED, record)
        return record

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
        """Return all volumes, each in the state that its lease shows."""
        return [self.observed(record) for record in self.registry.volumes()]

    def observed(self, record: Record) -> Record:
        """Return a record with the state that the lease shows: the lease is the truth about "in use"."""
        if record.state is State.ACTIVE and not leases.is_held(self.layout.lease(record.id)):
            return replace(record, state=State.STOPPED, stopped=record.stopped or record.acquired)
        return record

    def is_in_use(self, record: Record) -> bool:
        """Whether any process holds the volume's lease."""
        return record.id in self._uses or leases.is_held(self.layout.lease(record.id))

    def holder(self, record: Record) -> Holder | None:
        """Return who holds a volume; None if nobody does or nobody said."""
        path = self.layout.lease(record.id)
        return leases.holder_of(path) if leases.is_held(path) else None

    def path(self, record: Record) -> Path:
        """Return the directory of a volume."""
        return self.layout.volume(record.id)

    def session_of(self, path: str) -> str | None:
        """Return the session whose volume is the directory `path`; None if it is no volume of this pool."""
        volume_path = Path(path)
        if not path or volume_path.parent != self.layout.volumes:
            return None
        record = self.registry.get(volume_path.name)
        return None if record is None else record.session

    # -- the steps of an acquire -----------------------------------------------------------------------------

    def _record_for(self, session: str, kernelspec: str) -> tuple[Record, bool]:
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
        new_id = volume.new_id()
        try:
            record = self._with_reserve(
                lambda: registry.create(
                    new_id, session, kernelspec, self.clock(), self.settings.max_volumes
                )
            )
        except PoolFull:
            raise self._full(session) from None
        return record, record.id == new_id

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
            if current is None or current.session != record.session:
                if use is None:
                    lease.release()
                return None
            if use is None:
                self._require_nobody_left_behind(record, lease, cancel)
            path = self._ready(current)
            self._on_step("activate")
            active = self._with_reserve(
                lambda: self.registry.activate(record.id, kernelspec, self.clock())
            )
            self._on_step("record")
            self._write_record(active)
        except BaseException:
            if use is None:
                self._undo(record, lease, is_new)
            raise
        if use is None:
            use = self._uses[record.id] = _Use(lease)
        else:
            lease.describe(leases.with_kernel(lease.holder, kernel))
        use.kernels.append(kernel)
        self._on_step("acquired")
        return Acquired(active, path, lease.fd, kernel, is_new)

    def _take_lease(
        self, record: Record, kernel: str, purpose: Purpose, cancel: threading.Event
    ) -> Lease:
        self._on_step("lease")
        timeout = self.settings.acquire_timeout
        holder = Holder.this_process(purpose, self.clock(), kernel)
        lease = leases.take(
            self.layout.lease(record.id),
            holder,
            timeout=None if timeout is None else timeout.total_seconds(),
            cancel=cancel,
        )
        if lease is None:
            raise self._held(record, leases.holder_of(self.layout.lease(record.id)))
        return lease

    def _require_nobody_left_behind(
        self, record: Record, lease: Lease, cancel: threading.Event
    ) -> None:
        """Refuse a volume in which processes of a kernel whose server was killed live on."""
        previous = lease.previous
        if previous is None:
            return
        timeout = self.settings.acquire_timeout
        left = wait_until_gone(
            occupants(self.layout.volume(record.id)),
            timeout=0.5 if timeout is None else timeout.total_seconds(),
        )
        if left:
            raise self._held(
                record,
                replace(
                    previous,
                    purpose=Purpose.LEFT_BEHIND,
                    processes=tuple(process.pid for process in left),
                ),
            )

    def _ready(self, record: Record) -> Path:
        """See to it that the volume's files are on disk."""
        self._on_step("files")
        path = self.layout.volume(record.id)
        try:
            volume.make(path)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            if not self.reserve.spend():
                raise DiskFull(
                    f"The disk that holds {self.layout.root} is full, so no volume for {record.session!r} can be "
                    "made; free some space, e.g. `jupyter volumes prune SESSION`."
                ) from error
            volume.make(path)
        return path

    def _undo(self, record: Record, lease: Lease, is_new: bool) -> None:
        """Give back what a failed acquire took; the place too, if the volume never came to be."""
        path = self.layout.volume(record.id)
        with contextlib.suppress(VolumeError):
            if is_new and not path.exists():
                self.registry.forget(record.id)
        lease.release()

    def _leave(self, volume_id: str, use: _Use) -> None:
        """Record that a volume is stopped, then give its lease back.

        In this order: a record that says active while the lease is free is put right by whoever looks next.
        """
        self._uses.pop(volume_id, None)
        try:
            self._with_reserve(lambda: self.registry.deactivate(volume_id, self.clock()))
        except VolumeError as error:
            log.warning("A volume was released, but its record says active still: %s", error)
        finally:
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
            left = wait_until_gone(left, timeout=60.0)
        with self._door(acquired.record.id, threading.Event()):
            if self._uses.get(acquired.record.id) is use and not use.kernels:
                self._leave(acquired.record.id, use)

    # -- refusals --------------------------------------------------------------------------------------------

    def _held(self, record: Record, holder: Holder | None) -> VolumeHeld:
        who = str(holder) if holder else "another process"
        waited = " (waited for acquire_timeout)" if self.settings.acquire_timeout else ""
        return VolumeHeld(
            f"The volume of session {record.session!r} is in use by {who}{waited}; shut that kernel down, "
            "set VolumePool.acquire_timeout to wait for it, or set JUPYTER_VOLUME_SESSION to work in another volume."
        )

    def _full(self, session: str) -> PoolFull:
        stopped = sorted(
            (r for r in self.volumes() if r.state is State.STOPPED and not r.pinned),
            key=lambda r: r.stopped or r.created,
        )
        places = self.settings.max_volumes
        said = f"All {places} places of the pool are taken, so {session!r} gets no volume"
        if not stopped:
            return PoolFull(
                f"{said}, and all are in use or pinned; shut a kernel down, unpin a volume, "
                "or raise VolumePool.max_volumes."
            )
        names = ", ".join(repr(r.session) for r in stopped[:3])
        return PoolFull(
            f"{said}; free one of the {len(stopped)} stopped volumes (longest stopped: {names}) with "
            "`jupyter volumes prune SESSION`, or raise VolumePool.max_volumes."
        )

    def _near(self, session: str) -> str:
        from difflib import get_close_matches

        near = get_close_matches(session, [r.session for r in self.registry.volumes()], 3)
        return f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""

    # -- small things ----------------------------------------------------------------------------------------

    def _open(self) -> tuple[Layout, Registry]:
        with self._guard:
            if self._opened is None:
                settings = self.settings
                layout = prepare(settings.root_path, allow_network=settings.allow_network_root)
                registry = self._with_space(
                    layout.root, lambda: recovery.open_registry(layout, self.clock)
                )
                self._opened = (layout, registry)
                Reserve(layout.root).fill()
            return self._opened

    def _with_reserve(self, work: Callable[[], Any]) -> Any:
        return self._with_space(self.layout.root, work)

    @staticmethod
    def _with_space(root: Path, work: Callable[[], Any]) -> Any:
        """Run a write to the table; on a full disk, once more with the space kept back for it."""
        try:
            return work()
        except RegistryUnusable as error:
            if "disk full" not in str(error) or not Reserve(root).spend():
                raise
            return work()

    def _write_record(self, record: Record) -> None:
        """Let the volume carry its own record. On a full disk the older one stays; the table has the newer."""
        own = VolumeRecord(
            record.id,
            record.session,
            record.kernelspec,
            record.generation,
            record.created,
            record.pinned,
        )
        try:
            volume.write_record(self.layout.volume(record.id), own)
        except FileNotFoundError:
            pass  # pruned: a record lies in each of its backups
        except OSError as error:
            log.warning("The record of %r could not be written: %s", record.session, error)

    def _move_name_away(self, record: Record) -> None:
        serial = 2
        while (
            moved := self.registry.relabel(record.id, f"{record.session} ({serial})", self.clock())
        ) is None:
            serial += 1
        self._write_record(moved)

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

    def _emit(self, kind: Kind, record: Record, kernel: str = "", **details: Any) -> None:
        self.events.emit(Event(kind, self.clock(), record.session, record.id, kernel, details))

    def _emit_refusal(self, session: str, kernel: str, error: VolumeError) -> None:
        details = {"code": error.code, "message": str(error)}
        self.events.emit(Event(Kind.REFUSED, self.clock(), session, kernel=kernel, details=details))


_pools: dict[tuple[str, int], Pool] = {}
_pools_guard = threading.Lock()


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
