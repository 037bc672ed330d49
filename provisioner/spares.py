"""Volumes that are ready before anybody asks: hydrated, unclaimed, one rename away from a new session.

A spare is a volume whose session nobody has named yet. Claiming it gives it a name and moves no file, so paths that
its environment contains stay true. It takes a place of the pool like any volume and is the first to make room.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from threading import Event

from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from jupyter_client.provisioning.factory import KernelProvisionerFactory

from . import environment, volume
from .errors import ConfigError, VolumeHeld
from .event import log
from .hydration.step import Launch, Pristine, Progress
from .lease import Purpose
from .options import KernelOptions
from .pool import Pool
from .record import Record, Spare
from .uses import Acquired


def warm(
    pool: Pool,
    kernelspec: str,
    wanted: int,
    *,
    progress: Progress,
    cancel: Event,
    env: Mapping[str, str] | None = None,
) -> int:
    """See to it that `wanted` hydrated spares of a kernelspec are ready; blocks, so call it in a thread.

    Spares whose inputs have changed are retired once a new one is ready. Several processes may warm one root at
    once: together they make no more than wanted.

    Parameters
    ----------
    pool
        The pool.
    kernelspec
        The kernelspec's name.
    wanted
        How many spares; 0 retires all.
    progress
        Told what the hydrations do.
    cancel
        Ends it; a spare half-made is deleted.
    env
        The environment that kernels are started with; this process's by default.

    Returns
    -------
    How many were made.

    Raises
    ------
    HydrationFailed, ConfigError, PoolFull, DiskFull, Cancelled
        Nothing half-made is left behind; nothing is made at all for a kernelspec whose kernels could not claim it.
    """
    if wanted:
        _require_claimable(kernelspec)
    options, launch = environment.declared(kernelspec, os.environ if env is None else env)
    drifted = [
        r for r in pool.registry.spares(kernelspec) if _has_drifted(pool, r, options, launch)
    ]
    made = 0
    while not cancel.is_set():
        record = pool.registry.create_spare(
            volume.new_id(),
            kernelspec,
            pool.clock(),
            wanted + len(drifted),
            pool.settings.max_volumes,
        )
        if record is None:
            break
        _make(pool, record, options, launch, progress, cancel)
        made += 1
        if drifted:
            _retire(pool, drifted.pop())
    for record in drifted:
        _retire(pool, record)
    for record in pool.registry.spares(kernelspec)[wanted:]:
        _retire(pool, record)
    return made


def _require_claimable(kernelspec: str) -> None:
    """Refuse to make spares that no kernel will ever ask for."""
    try:
        metadata = KernelSpecManager().get_kernel_spec(kernelspec).metadata
    except NoSuchKernel as error:
        raise ConfigError(
            f"There is no kernelspec {kernelspec!r}, so nobody could claim its spares; correct VolumePool.spares, or "
            "install the kernelspec (`jupyter kernelspec list` shows those that there are)."
        ) from error
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"kernel.json of {kernelspec!r} cannot be read ({error}); correct or remove it."
        ) from error
    stanza = metadata.get("kernel_provisioner")
    if not isinstance(stanza, dict) or "provisioner_name" not in stanza:
        # As the server does it; finding the kernelspec has made this.
        named = KernelProvisionerFactory.instance().default_provisioner_name
    else:
        named = stanza["provisioner_name"]
    if named != environment.PROVISIONER:
        raise ConfigError(
            f"The kernelspec {kernelspec!r} gives no volume, so nobody could claim its spares; name one that does in "
            f"VolumePool.spares (`jupyter volumes kernelspec add {kernelspec}-volume --from {kernelspec}` makes one)."
        )


def _make(
    pool: Pool,
    record: Record,
    options: KernelOptions,
    launch: Launch,
    progress: Progress,
    cancel: Event,
) -> None:
    """Hydrate a spare under its lease; ready last, so that a killed process leaves what the next sweep deletes."""
    with pool.leased(record.id, Purpose.HYDRATE, cancel) as leased:
        try:
            path = pool.path(record)
            volume.make(path)
            acquired = Acquired(record, path, leased.lease.fd, kernel="")
            environment.prepare(
                launch,
                pool,
                options,
                acquired,
                notebook=None,
                progress=progress,
                cancel=leased.cancel,
                template=_template(pool, record.kernelspec),
            )
            pool.registry.set_spare(record.id, Spare.READY)
        except BaseException:
            pool.discard(leased)
            raise
    log.info("A spare volume for %r is ready.", record.kernelspec)


def _template(pool: Pool, kernelspec: str) -> Pristine | None:
    """Return a spare that is ready, to copy from; the one that is claimed last, so most likely to stay one."""
    ready = [r for r in pool.registry.spares(kernelspec) if r.spare is Spare.READY]
    if not ready:
        return None
    spare = ready[-1]

    def is_pristine() -> bool:
        # A claim takes the mark away, and any other use of a volume is counted, before a file is touched.
        now = pool.registry.get(spare.id)
        return now is not None and now.spare is Spare.READY and now.generation == 0

    return Pristine(volume.state_directory(pool.path(spare)), is_pristine)


def _has_drifted(pool: Pool, record: Record, options: KernelOptions, launch: Launch) -> bool:
    if record.spare is not Spare.READY:
        return False
    acquired = Acquired(record, pool.path(record), -1, kernel="")
    return not environment.is_ready(launch, pool, options, acquired)


def _retire(pool: Pool, record: Record) -> None:
    """Delete a spare, unless a session has claimed it by now."""
    try:
        with pool.leased(record.id, Purpose.PRUNE) as leased:
            if leased.record.spare is not None:
                pool.discard(leased)
    except VolumeHeld:
        return
    pool.empty_trash_in_background()
