"""Spares: hydrated volumes that no session has claimed yet.

A new session claims a spare by a change of its name. No file moves, so paths that its environment contains stay valid.
A spare takes a slot of the pool like any volume, and is evicted first.
"""

from __future__ import annotations

import os
from threading import Event

from provisioner.core.errors import ConfigError, VolumeHeld
from provisioner.core.progress import StepProgress
from provisioner.core.record import Record, Spare
from provisioner.hydration.environment import Environment
from provisioner.hydration.kernelspec import declared, volume_kernelspec
from provisioner.hydration.step import Launch, Pristine
from provisioner.pool.pool import Pool
from provisioner.settings.log import log
from provisioner.settings.options import KernelOptions
from provisioner.system import layout as volume
from provisioner.system.lease import Purpose


def warm(
    pool: Pool,
    kernelspec: str,
    wanted: int,
    *,
    progress: StepProgress,
    cancel: Event,
) -> int:
    """Make hydrated spares of a kernelspec until `wanted` are ready; blocks, so call it in a thread.

    Spares whose inputs have changed are retired once a new one is ready, and all if none is wanted. Several processes
    may warm one root at once: together they make no more than wanted. `cancel` ends the call, and a half-made spare
    is deleted.

    Returns
    -------
    How many were made.

    Raises
    ------
    HydrationFailed, ConfigError, PoolFull, DiskFull, Cancelled
        Nothing half-made is left behind. A kernelspec whose kernels get no volume gets no spares.
    """
    if wanted:
        try:
            volume_kernelspec(kernelspec)
        except ConfigError as error:
            reason = str(error).rstrip(".")
            raise ConfigError(
                f"{reason}. No session could claim its spares: correct VolumePool.spares."
            ) from error
    options, launch = declared(kernelspec, os.environ)
    drifted = [r for r in pool.catalog.spares(kernelspec) if _has_drifted(pool, r, options, launch)]
    made = 0
    while not cancel.is_set():
        record = pool.catalog.new_spare(kernelspec, wanted + len(drifted))
        if record is None:
            break
        _make(pool, record, options, launch, progress, cancel)
        made += 1
        if drifted:
            _retire(pool, drifted.pop())
    for record in drifted:
        _retire(pool, record)
    for record in pool.catalog.spares(kernelspec)[wanted:]:
        _retire(pool, record)
    return made


def _make(
    pool: Pool,
    record: Record,
    options: KernelOptions,
    launch: Launch,
    progress: StepProgress,
    cancel: Event,
) -> None:
    """Hydrate a spare under its lease; ready last, so that a killed process leaves what the next sweep deletes."""
    with pool.leases.maintenance(record.id, Purpose.HYDRATE, cancel) as leased:
        try:
            path = pool.path(record)
            volume.make(path)
            Environment(pool.settings, options, record, path).hydrate(
                launch,
                lease=leased.lease.fd,
                progress=progress,
                cancel=leased.cancel,
                clock=pool.clock,
                template=_template(pool, record.kernelspec),
            )
            pool.catalog.spare_is_ready(record.id)
        except BaseException:
            pool.files.discard(leased)
            raise
    log.info("A spare volume for %r is ready.", record.kernelspec)


def _template(pool: Pool, kernelspec: str) -> Pristine | None:
    """Return a spare that is ready, to copy from; the one that is claimed last, so most likely to stay one."""
    ready = [r for r in pool.catalog.spares(kernelspec) if r.spare is Spare.READY]
    if not ready:
        return None
    spare = ready[-1]

    def is_pristine() -> bool:
        # A claim takes the mark away, and any other use of a volume is counted, before a file is touched.
        now = pool.catalog.get(spare.id)
        return now is not None and now.spare is Spare.READY and now.generation == 0

    return Pristine(volume.state_directory(pool.path(spare)), is_pristine)


def _has_drifted(pool: Pool, record: Record, options: KernelOptions, launch: Launch) -> bool:
    if record.spare is not Spare.READY:
        return False
    return not Environment(pool.settings, options, record, pool.path(record)).is_ready(launch)


def _retire(pool: Pool, record: Record) -> None:
    """Delete a spare, unless a session has claimed it by now."""
    try:
        with pool.leases.maintenance(record.id, Purpose.PRUNE) as leased:
            if leased.record.spare is not None:
                pool.files.discard(leased)
    except VolumeHeld:
        return
    pool.files.empty_trash_in_background()
