"""All volumes under one root: the one door to them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from provisioner.core.event import Kind
from provisioner.core.policy import Due
from provisioner.core.progress import Progress, no_progress
from provisioner.core.record import BackupRecord, Record
from provisioner.pool.acquiring import Acquiring
from provisioner.pool.backups import Backups
from provisioner.pool.capacity import Capacity
from provisioner.pool.catalog import Catalog
from provisioner.pool.differences import Differences
from provisioner.pool.files import Files
from provisioner.pool.hub import Hub
from provisioner.pool.kernels import Acquired, Kernels
from provisioner.pool.leases import Leases
from provisioner.pool.pruning import Pruning
from provisioner.pool.restoring import Restoring
from provisioner.pool.root import Clock, Root, no_step, utc_now
from provisioner.settings.pool import VolumePool
from provisioner.system.lease import Holder, Purpose


class Pool:
    """The volumes under one root.

    One instance serves all threads of a process; its methods block and are called from worker threads.

    Parameters
    ----------
    settings
        The pool's settings.
    clock
        Returns the time (UTC).
    on_step
        Called with the name of each step before it is taken; for tests that stop the process there.
    """

    def __init__(
        self,
        settings: VolumePool,
        clock: Clock = utc_now,
        on_step: Callable[[str], None] = no_step,
    ) -> None:
        root = self.root = Root(settings, clock, on_step)
        self.leases = Leases(root)
        self.catalog = Catalog(root, self.leases)
        self.files = Files(root, self.leases, self.catalog)
        self.backups = Backups(root, self.leases)
        self.differences = Differences(root, self.leases, self.files, self.backups)
        self._pruning = Pruning(root, self.leases, self.files, self.backups)
        self.capacity = Capacity(
            root,
            self.leases,
            self.catalog,
            self.files,
            self.backups,
            self._pruning,
            self.differences,
        )
        self._restoring = Restoring(
            root, self.leases, self.catalog, self.files, self.backups, self.capacity
        )
        self._kernels = Kernels(root)
        self._acquiring = Acquiring(
            root,
            self.catalog,
            self.files,
            self.backups,
            self.capacity,
            self._restoring,
            self._kernels,
            self.differences,
        )

    def __repr__(self) -> str:
        return f"<Pool {self.settings.summary()}>"

    @property
    def settings(self) -> VolumePool:
        """The pool's settings. New ones count from the next call on: an edited file, from the next kernel."""
        return self.root.settings

    @settings.setter
    def settings(self, settings: VolumePool) -> None:
        self.root.settings = settings

    @property
    def clock(self) -> Clock:
        """Returns the time (UTC)."""
        return self.root.clock

    @property
    def events(self) -> Hub:
        """What happens to the volumes, for subscribers."""
        return self.root.events

    def close(self) -> None:
        """Close the table; volumes in use stay in use."""
        self.root.close()

    # -- use -------------------------------------------------------------------------------------------------

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
        return self._acquiring.acquire(
            session, kernelspec, kernel, purpose, cancel or threading.Event()
        )

    def kernel_is_up(self, acquired: Acquired, process: int) -> None:
        """Note a kernel's process in the lease, so that others can see what holds it. Never fails."""
        self._kernels.is_up(acquired, process)

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
        if self._kernels.remove(acquired, process):
            self.root.emit(Kind.RELEASED, acquired.record, acquired.kernel)

    # -- looking ---------------------------------------------------------------------------------------------

    def find(self, session: str) -> Record:
        """Return the volume of a session, by its name, a former name, or its id (`VolumeNotFound`)."""
        return self.catalog.find(session)

    def volumes(self) -> list[Record]:
        """Return all volumes, each in the state that its lease and the processes in it show."""
        return self.catalog.volumes()

    def path(self, record: Record) -> Path:
        """Return the directory of a volume."""
        return self.catalog.path(record)

    def holder(self, record: Record) -> Holder | None:
        """Return what holds a volume, processes that a kernel left behind included; None if nothing known does."""
        return self.leases.holder(record)

    def due(self, record: Record) -> Due:
        """Return when a volume is backed up and pruned next, if it is not used before."""
        return self.catalog.due(record)

    # -- what is done to stopped volumes ---------------------------------------------------------------------

    def rename(self, old: str, new: str) -> Record | None:
        """Give the volume of session `old` the name `new` (see `Catalog.rename`)."""
        return self.catalog.rename(old, new)

    def back_up(
        self,
        volume_id: str,
        *,
        cancel: threading.Event | None = None,
        progress: Progress = no_progress,
    ) -> BackupRecord:
        """Back a stopped volume up and return the verified backup (see `Backups.back_up`)."""
        return self.backups.back_up(volume_id, cancel=cancel, progress=progress)

    def prune(self, volume_id: str, *, force: bool = False, look_first: bool = False) -> Record:
        """Delete a stopped volume's files; its backups stay and can bring it back.

        The files are renamed away, which takes no time, and deleted in the background. Files that were changed
        since the backup, by a program without a lease, are put back.

        Parameters
        ----------
        volume_id
            The volume.
        force
            Its owner said that files without a backup may go.
        look_first
            Whether to look for changed files first, for a caller that ends at once; it takes time.

        Raises
        ------
        NotBackedUp
            If no verified backup of the present generation exists, and not `force`.
        VolumeHeld
            If the volume is in use.
        """
        return self._pruning.prune(volume_id, force=force, look_first=look_first)

    def delete(self, volume_id: str) -> None:
        """Delete a stopped volume with its files and all its backups, as its owner said."""
        self._pruning.delete(volume_id)

    def restore(
        self,
        volume_id: str,
        *,
        backup: str | None = None,
        cancel: threading.Event | None = None,
        progress: Progress = no_progress,
    ) -> Record:
        """Bring a volume back from its newest backup, or the one named; return its record.

        Files that lie on disk are backed up first and then replaced: a restore loses nothing.

        Raises
        ------
        RestoreFailed
            If there is no (such) backup.
        BackupDamaged
            Naming the damaged backup; nothing was changed.
        VolumeHeld, PoolFull, DiskFull, Cancelled
            Nothing was changed.
        """
        return self._restoring.restore(volume_id, backup, cancel, progress)
