"""The pools of this process: one for each root, so that all kernels of a process share leases."""

from __future__ import annotations

import os
import threading

from provisioner.pool.pool import Pool
from provisioner.settings.pool import VolumePool

_pools: dict[str, Pool] = {}
_guard = threading.Lock()


def pool_of(settings: VolumePool) -> Pool:
    """Return this process's pool for the root in `settings`.

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
