"""The operations on volumes that the REST interface and the page offer."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace

from provisioner.core.errors import VolumeNotFound
from provisioner.core.progress import Progress
from provisioner.core.record import State
from provisioner.maintenance.sweep import Report, sweep
from provisioner.pool.pool import Pool
from provisioner.server.background.low_priority import back_up_in_child, sweep_in_child
from provisioner.server.background.threads import Workers
from provisioner.server.culling.culler import Culler
from provisioner.server.rest.jobs import Job, Jobs
from provisioner.server.rest.refusals import Refusal
from provisioner.server.rest.volumes import View, Volumes


class Operations:
    """Carries short operations out, and starts long ones as jobs.

    Each raises `VolumeNotFound` for an unknown volume.
    """

    def __init__(
        self, pool: Pool, volumes: Volumes, culler: Culler, jobs: Jobs, workers: Workers
    ) -> None:
        self.volumes = volumes
        self.jobs = jobs
        self.clock = pool.clock
        self._pool = pool
        self._culler = culler
        self._workers = workers

    async def back_up(self, volume_id: str) -> Job:
        """Start a backup of a volume."""
        record = (await self.volumes.one(volume_id)).record

        def work(cancel: threading.Event, progress: Progress) -> str:
            made = back_up_in_child(self._pool, record.id, cancel, progress)
            return f"{made.files} files, {size(made.bytes)}, now {size(made.size)} in {made.name}"

        return self.jobs.start("backup", work, volume=record.id, session=record.session)

    async def restore(self, volume_id: str, backup: str | None) -> Job:
        """Start to restore a volume from its newest backup, or from the one named."""
        record = (await self.volumes.one(volume_id)).record
        backups = await self._workers.run(lambda: self._pool.backups.list(record.id))
        if backup is not None and backup not in {known.name for known in backups}:
            raise Refusal(
                "not-found",
                f"{backup[:80]!r} is no backup of {record.session!r}; `jupyter volumes backups` lists those there are.",
            )

        def work(cancel: threading.Event, progress: Progress) -> str:
            self._pool.restore(record.id, backup=backup, cancel=cancel, progress=progress)
            return f"{record.session!r} is back"

        return self.jobs.start(
            "restore", work, volume=record.id, session=record.session, backup=backup
        )

    async def pin(self, volume_id: str, pinned: bool) -> View:
        """Pin or unpin a volume."""
        record = (await self.volumes.one(volume_id)).record
        await self._workers.run(lambda: self._pool.catalog.pin(record.id, pinned))
        return await self.volumes.one(volume_id)

    async def keep(self, volume_id: str) -> View:
        """Count this server's kernels in a volume as active now; there must be one."""
        view = await self.volumes.one(volume_id)
        if not view.kernels:
            raise Refusal(
                "no-kernel",
                f"The volume of {view.record.session!r} has no kernel in this server, so there is none to keep; "
                "open its notebook.",
            )
        self._culler.keep(view.kernels)
        return await self.volumes.one(volume_id)

    async def delete(self, volume_id: str, confirmation: str, backups: bool = False) -> View:
        """Delete a volume's files, and its backups too if `backups` is set; return the volume as it was last.

        Raises
        ------
        Refusal
            If `confirmation` is not the session's exact name.
        VolumeHeld
            If the volume is in use.
        """
        view = await self.volumes.one(volume_id)
        record = view.record
        if confirmation != record.session:
            raise Refusal(
                "not-confirmed",
                f"The volume is not deleted: {confirmation[:80]!r} is not its session's name; "
                f"confirm with {record.session!r}.",
            )
        if backups:
            await self._workers.run(lambda: self._pool.delete(record.id))
            return View(replace(record, state=State.PRUNED, bytes=None), view.path)
        pruned = await self._workers.run(lambda: self._pool.prune(record.id, force=True))
        try:
            return await self.volumes.one(volume_id)
        except VolumeNotFound:  # a volume without a backup is gone
            return View(pruned, view.path)

    async def sweep(self, dry_run: bool = False) -> Job:
        """Start a sweep, or find out what one would do."""

        def work(cancel: threading.Event, progress: Progress) -> str:
            if dry_run:
                return summary(sweep(self._pool, cancel=cancel, dry_run=True))
            return summary(sweep_in_child(self._pool, cancel))

        return self.jobs.start("dry-sweep" if dry_run else "sweep", work)


def summary(report: Report) -> str:
    """Return what a sweep did, in one line."""
    if report.skipped:
        return "another process is sweeping this root"
    counted = Counter(step.action.value for step in report.steps if step.error is None)
    parts = [f"{action}: {count}" for action, count in sorted(counted.items())]
    failed = [step for step in report.steps if step.error is not None]
    if failed:
        parts.append(f"not done: {len(failed)} ({failed[0].session}: {failed[0].error})")
    if report.repaired:
        parts.append(f"put right: {len(report.repaired)}")
    return ", ".join(parts) or "nothing was due"


def size(count: int) -> str:
    """Return a number of bytes with its unit and at most three digits."""
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 999.5:
            return (
                f"{value:.0f} {unit}" if unit == "bytes" or value >= 99.5 else f"{value:.2g} {unit}"
            )
        value /= 1000
    return f"{value:.3g} TB"
