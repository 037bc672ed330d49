"""The story of an acquire, from the name of a session to its volume in use.

The name is looked up or entered, the lease is taken, the files are made or brought back, the record says so; in this
order, so that a process killed at any line leaves nothing that the next acquire does not finish or undo.
"""

from __future__ import annotations

import contextlib
import errno
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from provisioner.core.errors import DiskFull, PoolDisabled, VolumeError
from provisioner.core.event import Event, Kind
from provisioner.core.record import Record
from provisioner.core.session import checked
from provisioner.pool.backups import Backups
from provisioner.pool.capacity import Capacity
from provisioner.pool.catalog import Catalog
from provisioner.pool.differences import Differences
from provisioner.pool.files import Files
from provisioner.pool.kernels import Acquired, Kernels
from provisioner.pool.restoring import Restoring
from provisioner.pool.root import Root
from provisioner.settings.log import log
from provisioner.system import layout
from provisioner.system import lease as leases
from provisioner.system.lease import Purpose

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(eq=False)
class Acquiring:
    """Acquires volumes for kernels of this process."""

    _root: Root
    _catalog: Catalog
    _files: Files
    _backups: Backups
    _capacity: Capacity
    _restoring: Restoring
    _kernels: Kernels
    _differences: Differences

    def acquire(
        self,
        session: str,
        kernelspec: str,
        *,
        kernel: str,
        purpose: Purpose = Purpose.KERNEL,
        cancel: threading.Event | None = None,
    ) -> Acquired:
        """Return the volume of `session`, leased to this process, its files on disk.

        If this raises, it has given back what it took. A volume already in use by this process is shared.

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
        began = time.monotonic()
        cancel = cancel or threading.Event()
        try:
            checked(session, "the caller")
            while True:
                record, is_new = self._record_for(session, kernelspec, cancel)
                with self._undoing(record, is_new), self._kernels.door(record.id, cancel):
                    acquired = self._enter(record, kernelspec, kernel, purpose, cancel)
                if acquired is not None:
                    waited = time.monotonic() - began
                    self._root.emit(
                        Kind.ACQUIRED, acquired.record, kernel, new=is_new, waited=waited
                    )
                    return acquired
        except VolumeError as error:
            details = {"code": error.code, "message": str(error)}
            self._root.events.emit(
                Event(Kind.REFUSED, self._root.clock(), session, kernel=kernel, details=details)
            )
            raise

    def _record_for(
        self, session: str, kernelspec: str, cancel: threading.Event
    ) -> tuple[Record, bool]:
        """Look the session up, or enter it. From here on it takes a slot, whichever process enters it first."""
        if not self._root.settings.enabled:
            raise PoolDisabled(
                "Volumes are switched off (VolumePool.enabled = False); set it to True, or choose a kernel without one."
            )
        registry = self._root.registry
        found = registry.names.find(session)
        if found is not None:
            return found, False
        self._root.on_step("enter")
        claimed = registry.spares.claim(session, kernelspec, self._root.clock())
        if claimed is not None:
            return claimed, True
        new_id, slots = layout.new_id(), self._root.settings.max_volumes
        entered = self._capacity.with_room(
            session,
            cancel,
            lambda: registry.volumes.create(new_id, session, kernelspec, self._root.clock(), slots),
        )
        return entered, entered.id == new_id

    def _enter(
        self,
        record: Record,
        kernelspec: str,
        kernel: str,
        purpose: Purpose,
        cancel: threading.Event,
    ) -> Acquired | None:
        """Take the lease and make the volume ready; None if the volume was renamed or pruned away meanwhile."""
        volumes, step = self._root.registry.volumes, self._root.on_step
        shared = self._kernels.lease(record.id)
        lease = shared or self._kernels.take_lease(record, kernel, purpose, cancel)
        try:
            step("leased")
            current = volumes.get(record.id)
            if current is None or current.session != record.session:
                if shared is None:
                    leases.remove(lease) if current is None else lease.put_back()
                return None
            if shared is None:
                self._kernels.require_nothing_left_behind(record, lease, cancel)
            path = self._ready(current, kernel, cancel)
            step("activate")
            active = volumes.activate(record.id, kernelspec, self._root.clock())
            step("record")
            self._catalog.write_record(active)
        except BaseException:
            if shared is None:
                lease.put_back()
            raise
        self._kernels.add(record.id, lease, kernel, purpose)
        step("acquired")
        return Acquired(active, path, lease.fd, kernel)

    def _ready(self, record: Record, kernel: str, cancel: threading.Event) -> Path:
        """See to it that the volume's files are on disk: there, made, or brought back."""
        self._root.on_step("files")
        path = self._root.layout.volume(record.id)
        self._files.set_stray_files_beside(record)
        if record.generation and not path.exists():
            self._bring_back(record, kernel, cancel)
        try:
            layout.make(path)
        except OSError as error:
            if error.errno not in _FULL or not self._root.reserve.spend():
                raise
            layout.make(path)
        return path

    def _bring_back(self, record: Record, kernel: str, cancel: threading.Event) -> None:
        backup = self._backups.stored.newest(record)
        if backup is None:
            log.warning(
                "The files of %r are gone and no backup exists; it starts empty.", record.session
            )
            self._capacity.take_slot(record, cancel)
            return

        def report(done: int, total: int | None) -> None:
            self._root.emit(
                Kind.RESTORE_PROGRESS, record, kernel, done=done, total=total or backup.bytes
            )

        self._restoring.bring_back(record, backup, cancel, report)

    @contextlib.contextmanager
    def _undoing(self, record: Record, is_new: bool) -> Iterator[None]:
        """Around an acquire that may fail: a new volume gives its slot back; errors of the disk become one line."""
        try:
            yield
        except BaseException as error:
            if is_new:
                with contextlib.suppress(VolumeError, OSError):
                    self._differences.settle(record.id)
                    self._files.empty_trash_in_background()
            if not isinstance(error, OSError):
                raise
            if error.errno in _FULL:
                raise DiskFull(
                    f"The disk that holds {self._root.settings.root_path} is full, so {record.session!r} gets no "
                    "volume; free some space, e.g. `jupyter volumes prune SESSION`."
                ) from error
            raise VolumeError(
                f"The volume of {record.session!r} cannot be used ({error.strerror}: {error.filename}); "
                "move away what is in the way, or make it yours."
            ) from error
