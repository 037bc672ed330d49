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
from pathlib import Path

from provisioner.core.errors import DiskFull, PoolDisabled, VolumeError
from provisioner.core.event import Event, Kind
from provisioner.core.record import Record
from provisioner.core.session import checked
from provisioner.pool.restoration import Restoration
from provisioner.pool.uses import Acquired, Uses
from provisioner.settings.log import log
from provisioner.settings.pool import VolumePool
from provisioner.system import layout as volume
from provisioner.system import lease as leases
from provisioner.system.lease import Purpose

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Pool(Restoration, Uses):
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
                self._require_nobody_left_behind(record, lease, cancel)
            path = self._ready(current, kernel, cancel)
            self._on_step("activate")
            active = self.registry.activate(record.id, kernelspec, self.clock())
            self._on_step("record")
            self._write_record(active)
        except BaseException:
            if use is None:
                lease.release()
            raise
        self._add_use(record.id, lease, kernel, purpose)
        self._on_step("acquired")
        return Acquired(active, path, lease.fd, kernel, is_new)

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
