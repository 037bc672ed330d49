"""What people do to volumes over REST and on the page. Blocks: called in threads."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace

from provisioner.core.progress import Progress
from provisioner.core.record import Record, State
from provisioner.maintenance.sweep import Report, sweep
from provisioner.pool.pool import Pool
from provisioner.server.background.low_priority import back_up_in_child, sweep_in_child
from provisioner.server.rest.jobs import Job, Jobs
from provisioner.server.rest.listing import Listing
from provisioner.server.rest.refusals import NotConfirmed, NotFound
from provisioner.server.rest.wording import size


class Operations:
    """Carries out, or begins, one operation at a time.

    Parameters
    ----------
    pool
        The pool.
    listing
        Looks volumes up.
    jobs
        Where long operations run.
    """

    def __init__(self, pool: Pool, listing: Listing, jobs: Jobs) -> None:
        self._pool = pool
        self._listing = listing
        self._jobs = jobs

    def back_up(self, volume_id: str) -> Job:
        """Begin a backup of a volume."""
        record = self._listing.record(volume_id)

        def work(cancel: threading.Event, progress: Progress) -> str:
            made = back_up_in_child(self._pool, record.id, cancel, progress)
            return f"{made.files} files, {size(made.bytes)}, now {size(made.size)} in {made.name}"

        return self._jobs.start("backup", work, volume=record.id, session=record.session)

    def restore(self, volume_id: str, backup: str | None) -> Job:
        """Begin to bring a volume back, from its newest backup or the one named."""
        record = self._listing.record(volume_id)
        if backup is not None and backup not in {b.name for b in self._pool.backups(record.id)}:
            raise NotFound(
                f"{backup[:80]!r} is no backup of {record.session!r}; `jupyter volumes backups` lists those there are."
            )

        def work(cancel: threading.Event, progress: Progress) -> str:
            self._pool.restore(record.id, backup=backup, cancel=cancel, progress=progress)
            return f"{record.session!r} is back"

        return self._jobs.start(
            "restore", work, volume=record.id, session=record.session, wish=backup
        )

    def pin(self, volume_id: str, pinned: bool) -> None:
        """Pin or unpin a volume."""
        self._pool.pin(self._listing.record(volume_id).id, pinned)

    def delete(self, volume_id: str, confirmation: str, backups: bool) -> Record:
        """Delete a volume's files, and its backups too if so asked; return its last record.

        Raises
        ------
        NotConfirmed
            If `confirmation` is not the session's exact name.
        VolumeHeld
            If the volume is in use.
        """
        record = self._listing.record(volume_id)
        if confirmation != record.session:
            raise NotConfirmed(
                f"The volume is not deleted: {confirmation[:80]!r} is not its session's name; "
                f"confirm with {record.session!r}."
            )
        if backups:
            self._pool.delete(record.id)
            return replace(record, state=State.PRUNED, bytes=None)
        return self._pool.prune(record.id, force=True)

    def sweep(self, dry_run: bool) -> Job:
        """Begin a sweep, or find out what one would do."""

        def work(cancel: threading.Event, progress: Progress) -> str:
            if dry_run:
                return summary(sweep(self._pool, cancel=cancel, dry_run=True))
            return summary(sweep_in_child(self._pool, cancel))

        return self._jobs.start("dry-sweep" if dry_run else "sweep", work)


def summary(report: Report) -> str:
    """Return what a sweep did, in one line."""
    if report.skipped:
        return "another process is sweeping this root"
    counted = Counter(step.action.value for step in report.steps if step.error is None)
    said = [f"{action}: {count}" for action, count in sorted(counted.items())]
    failed = [step for step in report.steps if step.error is not None]
    if failed:
        said.append(f"not done: {len(failed)} ({failed[0].session}: {failed[0].error})")
    if report.repaired:
        said.append(f"put right: {len(report.repaired)}")
    return ", ".join(said) or "nothing was due"
