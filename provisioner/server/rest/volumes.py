"""Looks volumes up for the REST interface and the page: the pool's records, and this server's kernels in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from provisioner.core.errors import ConfigError
from provisioner.core.policy import Due, Policy, due
from provisioner.core.record import BackupRecord, Record, State
from provisioner.pool.pool import Pool
from provisioner.server.background.threads import Workers
from provisioner.server.kernels import VolumeKernels
from provisioner.server.notebooks import api_path
from provisioner.server.rest.refusals import NotFound
from provisioner.settings.notebook import canonical
from provisioner.system.lease import Holder


@dataclass(frozen=True)
class Running:
    """The kernels that this server has in one volume, and when the first of them is shut down for idleness."""

    kernels: tuple[str, ...] = ()
    idle_shutdown_at: datetime | None = None


_NOTHING = Running()
_NEVER = Due(None, None)


@dataclass(frozen=True)
class View:
    """What clients see of one volume.

    Parameters
    ----------
    record
        Its record, in the state that its lease shows.
    path
        Its directory.
    backup
        Its newest backup; None if there is none.
    due
        When its backup and its pruning are due.
    holder
        The process or kernel that uses it; None if there is none, or it is not known.
    running
        The kernels that this server has in it.
    notebook
        Its notebook's API path; None if the session is no notebook under the server's root directory.
    """

    record: Record
    path: Path
    backup: BackupRecord | None = None
    due: Due = _NEVER
    holder: Holder | None = None
    running: Running = _NOTHING
    notebook: str | None = None


class Volumes:
    """The volumes of a pool, as clients see them.

    Parameters
    ----------
    pool
        The pool.
    kernels
        The kernels of this server that have volumes.
    cull_due
        Returns when a kernel is shut down if it stays idle.
    root
        The server's root directory, to which API paths are relative.
    workers
        The threads in which the pool is read.
    """

    def __init__(
        self,
        pool: Pool,
        kernels: VolumeKernels,
        cull_due: Callable[[str], datetime | None],
        root: str,
        workers: Workers,
    ) -> None:
        self._pool = pool
        self._kernels = kernels
        self._cull_due = cull_due
        self._top = canonical(root)
        self._workers = workers

    async def all(self) -> list[View]:
        """Return all volumes, by name."""
        running = self._running()
        return await self._workers.run(lambda: self._all(running))

    async def one(self, volume_id: str) -> View:
        """Return one volume by its id (`NotFound`)."""
        running = self._running()
        return await self._workers.run(lambda: self._one(volume_id, running))

    def _running(self) -> dict[str, Running]:
        """Return what runs in each volume that has a kernel of this server; called on the event loop."""
        found: dict[str, list[str]] = {}
        for kernel in self._kernels.all():
            found.setdefault(kernel.volume, []).append(kernel.kernel)
        return {
            volume: Running(tuple(ids), min(filter(None, map(self._cull_due, ids)), default=None))
            for volume, ids in found.items()
        }

    def _all(self, running: Mapping[str, Running]) -> list[View]:
        newest: dict[str, BackupRecord] = {}
        for backup in self._pool.backups.list():
            newest.setdefault(backup.id, backup)
        records = self._pool.volumes()
        # Once for each kernelspec, not for each volume.
        policies = {name: self._policy(name) for name in {record.kernelspec for record in records}}
        return [
            self._view(record, newest.get(record.id), policies[record.kernelspec], running)
            for record in records
        ]

    def _one(self, volume_id: str, running: Mapping[str, Running]) -> View:
        record = self._pool.catalog.get(volume_id)
        if record is None:
            raise NotFound(
                f"There is no volume {volume_id[:80]!r}; GET /api/volumes lists those there are."
            )
        record = self._pool.catalog.observed(record)
        newest = next(iter(self._pool.backups.list(volume_id)), None)
        return self._view(record, newest, self._policy(record.kernelspec), running)

    def _view(
        self,
        record: Record,
        newest: BackupRecord | None,
        policy: Policy | None,
        running: Mapping[str, Running],
    ) -> View:
        is_active = record.state is State.ACTIVE
        return View(
            record=record,
            path=self._pool.path(record),
            backup=newest,
            due=_NEVER if policy is None else due(record, policy),
            holder=self._pool.holder(record) if is_active else None,
            # A kernel that has just ended is still known here for a moment.
            running=running.get(record.id, _NOTHING) if is_active else _NOTHING,
            notebook=api_path.to_api(record.session, self._top),
        )

    def _policy(self, kernelspec: str) -> Policy | None:
        try:
            return self._pool.settings.policy(kernelspec)
        except ConfigError:
            return None
