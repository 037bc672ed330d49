"""All volumes under one root: the one door to them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from provisioner.pool.acquiring import Acquiring
from provisioner.pool.backups import Backups
from provisioner.pool.capacity import Capacity
from provisioner.pool.catalog import Catalog
from provisioner.pool.differences import Differences
from provisioner.pool.files import Files
from provisioner.pool.kernels import Kernels
from provisioner.pool.leases import Leases
from provisioner.pool.restoring import Restoring
from provisioner.pool.root import Clock, Root, no_step, utc_now
from provisioner.settings.pool import VolumePool


class Pool:
    """The volumes under one root.

    One instance serves all threads of a process; its methods block and are called from worker threads. The parts do
    the work: the fields of each say with which others it works. The verbs are described where they are defined.

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
        leases = self.leases = Leases(root)
        catalog = self.catalog = Catalog(root, leases)
        files = self.files = Files(root, leases, catalog)
        backups = self.backups = Backups(root, leases)
        differences = self.differences = Differences(root, leases, files, backups)
        capacity = self.capacity = Capacity(root, leases, catalog, files, backups, differences)
        restoring = Restoring(root, leases, catalog, files, backups, capacity)
        kernels = Kernels(root, leases)
        acquiring = Acquiring(
            root, catalog, files, backups, capacity, restoring, kernels, differences
        )
        self.clock = root.clock
        self.events = root.events
        self.close = root.close

        # What kernels do.
        self.acquire = acquiring.acquire
        self.kernel_is_up = kernels.is_up
        self.release = kernels.release

        # What people see.
        self.find = catalog.find
        self.volumes = catalog.volumes
        self.path = catalog.path
        self.due = catalog.due
        self.holder = leases.holder

        # What is done to stopped volumes.
        self.back_up = backups.back_up
        self.prune = capacity.prune
        self.delete = capacity.delete
        self.restore = restoring.restore

    def __repr__(self) -> str:
        return f"<Pool {self.settings.summary()}>"

    @property
    def settings(self) -> VolumePool:
        """The pool's settings. New ones count from the next call on: an edited file, from the next kernel."""
        return self.root.settings

    @settings.setter
    def settings(self, settings: VolumePool) -> None:
        self.root.settings = settings


_pools: dict[str, Pool] = {}
_guard = threading.Lock()


def pool_of(settings: VolumePool) -> Pool:
    """Return this process's pool for the root in `settings`: all kernels of a process share leases.

    A pool that exists takes over the new settings: an edited configuration file counts from the next kernel on.
    """
    root = str(settings.root_path)
    with _guard:
        pool = _pools.get(root)
        if pool is None:
            pool = _pools[root] = Pool(settings)
        else:
            pool.settings = settings
        return pool


def _forget_after_fork() -> None:
    """In a forked child: the pools are the parent's, and another thread may have held the lock."""
    global _guard
    _guard = threading.Lock()
    _pools.clear()


os.register_at_fork(after_in_child=_forget_after_fork)
