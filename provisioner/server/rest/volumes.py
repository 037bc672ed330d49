"""Looks volumes up for the REST interface and the page: the pool's records, and this server's kernels in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from provisioner.core.errors import ConfigError, VolumeNotFound
from provisioner.core.policy import Due
from provisioner.core.record import BackupRecord, Record, State
from provisioner.pool.pool import Pool
from provisioner.server.background.threads import Workers
from provisioner.server.kernels import VolumeKernels
from provisioner.server.notebooks import api_path
from provisioner.settings.notebook import canonical
from provisioner.system.lease import Holder

_NEVER = Due(None, None)


@dataclass(frozen=True)
class View:
    """What clients see of one volume.

    Parameters
    ----------
    record
        Its record, in the state that its lease shows.
    backup
        Its newest backup.
    notebook
        Its notebook's API path; None if the session is no notebook under the server's root directory.
    kernels, idle_shutdown_at
        The kernels that this server has in it, and when the first of them is shut down for idleness.
    """

    record: Record
    path: Path
    backup: BackupRecord | None = None
    due: Due = _NEVER
    holder: Holder | None = None
    notebook: str | None = None
    kernels: tuple[str, ...] = ()
    idle_shutdown_at: datetime | None = None


class Volumes:
    """The volumes of a pool, as clients see them.

    Parameters
    ----------
    cull_due
        Returns when a kernel is shut down if it stays idle.
    root
        The server's root directory, to which API paths are relative.
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

        def look() -> list[View]:
            backups = self._pool.backups.list()
            return list(self._views(self._pool.volumes(), backups, running))

        return await self._workers.run(look)

    async def one(self, volume_id: str) -> View:
        """Return one volume by its id (`VolumeNotFound`)."""
        running = self._running()

        def look() -> View:
            record = self._pool.catalog.get(volume_id)
            if record is None:
                raise VolumeNotFound(
                    f"There is no volume {volume_id[:80]!r}; GET /api/volumes lists those there are."
                )
            record = self._pool.catalog.observed(record)
            return next(self._views([record], self._pool.backups.list(volume_id), running))

        return await self._workers.run(look)

    def _running(self) -> dict[str, dict[str, Any]]:
        """Return what a view shows of this server's kernels, by volume; called on the event loop."""
        found: dict[str, list[str]] = {}
        for kernel in self._kernels.all():
            found.setdefault(kernel.volume, []).append(kernel.kernel)
        return {
            volume: {
                "kernels": tuple(ids),
                "idle_shutdown_at": min(filter(None, map(self._cull_due, ids)), default=None),
            }
            for volume, ids in found.items()
        }

    def _views(
        self,
        records: Sequence[Record],
        backups: Sequence[BackupRecord],
        running: Mapping[str, dict[str, Any]],
    ) -> Iterator[View]:
        newest = {backup.id: backup for backup in reversed(backups)}
        for record in records:
            # A kernel that has just ended is still known here for a moment.
            is_active = record.state is State.ACTIVE
            yield View(
                record,
                self._pool.path(record),
                newest.get(record.id),
                self._due(record),
                self._pool.holder(record) if is_active else None,
                api_path.to_api(record.session, self._top),
                **(running.get(record.id, {}) if is_active else {}),
            )

    def _due(self, record: Record) -> Due:
        try:
            return self._pool.due(record)
        except ConfigError:
            return _NEVER
