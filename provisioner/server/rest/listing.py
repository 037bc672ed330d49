"""Gathers what is told of volumes: from the pool, and from this server's kernels. Blocks, but for what is handed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from provisioner.core.errors import ConfigError
from provisioner.core.policy import Due, Policy, due
from provisioner.core.record import BackupRecord, Record, State
from provisioner.pool.pool import Pool
from provisioner.server.kernels import VolumeKernels
from provisioner.server.notebooks import api_path
from provisioner.server.rest.models import View
from provisioner.server.rest.refusals import NotFound
from provisioner.settings.notebook import canonical


@dataclass(frozen=True)
class Running:
    """The kernels that this server has in one volume, and when the first of them is shut down for idleness."""

    kernels: tuple[str, ...]
    idle_shutdown_at: datetime | None


def running(
    kernels: VolumeKernels, cull_due: Callable[[str], datetime | None]
) -> dict[str, Running]:
    """Return what runs in each volume that has a kernel of this server; called on the event loop."""
    found: dict[str, list[str]] = {}
    for occupant in kernels.all():
        found.setdefault(occupant.volume, []).append(occupant.kernel)
    return {
        volume: Running(tuple(ids), min(filter(None, map(cull_due, ids)), default=None))
        for volume, ids in found.items()
    }


class Listing:
    """Looks volumes up.

    Parameters
    ----------
    pool
        The pool.
    root
        The server's root directory, by which notebooks have API paths.
    """

    def __init__(self, pool: Pool, root: str) -> None:
        self._pool = pool
        self._top = canonical(root)

    def all(self, now_running: Mapping[str, Running]) -> list[View]:
        """Return all volumes, by name."""
        newest: dict[str, BackupRecord] = {}
        for backup in self._pool.backups.list():
            newest.setdefault(backup.id, backup)
        policies: dict[str, Policy | None] = {}
        views = []
        for record in self._pool.volumes():
            if record.kernelspec not in policies:
                policies[record.kernelspec] = self._policy(record.kernelspec)
            views.append(
                self._view(record, newest.get(record.id), policies[record.kernelspec], now_running)
            )
        return views

    def one(self, volume_id: str, now_running: Mapping[str, Running]) -> View:
        """Return one volume by its id.

        Raises
        ------
        NotFound
        """
        record = self.record(volume_id)
        backups = self._pool.backups.list(volume_id)
        newest = backups[0] if backups else None
        return self._view(record, newest, self._policy(record.kernelspec), now_running)

    def record(self, volume_id: str) -> Record:
        """Return the record of one volume by its id.

        Raises
        ------
        NotFound
        """
        record = self._pool.storage.registry.volumes.get(volume_id)
        if record is None:
            raise NotFound(
                f"There is no volume {volume_id[:80]!r}; GET /api/volumes lists those there are."
            )
        return self._pool.catalog.observed(record)

    def _view(
        self,
        record: Record,
        newest: BackupRecord | None,
        policy: Policy | None,
        now_running: Mapping[str, Running],
    ) -> View:
        here = now_running.get(record.id, Running((), None))
        return View(
            record=record,
            path=self._pool.path(record),
            backup=newest,
            due=Due(None, None) if policy is None else due(record, policy),
            holder=self._pool.holder(record) if record.state is State.ACTIVE else None,
            kernels=here.kernels,
            idle_shutdown_at=here.idle_shutdown_at,
            notebook=api_path.to_api(record.session, self._top),
        )

    def _policy(self, kernelspec: str) -> Policy | None:
        try:
            return self._pool.settings.policy(kernelspec)
        except ConfigError:
            return None
