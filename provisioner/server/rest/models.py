"""Volumes, backups and jobs as JSON. Pure: values in, plain JSON values out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from provisioner.core.policy import Due
from provisioner.core.record import BackupRecord, Record
from provisioner.server.rest.jobs import Job
from provisioner.system.lease import Holder

Model = dict[str, Any]


@dataclass(frozen=True)
class View:
    """All that is told of one volume.

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
        Who uses it; None if nobody does or nobody said.
    kernels
        The ids of this server's kernels in it.
    idle_shutdown_at
        When the first of them is shut down for idleness, as things stand.
    notebook
        Its notebook's API path; None where the session is no notebook that this server reaches.
    """

    record: Record
    path: Path
    backup: BackupRecord | None
    due: Due
    holder: Holder | None = None
    kernels: Sequence[str] = ()
    idle_shutdown_at: datetime | None = None
    notebook: str | None = None


def volume_model(view: View) -> Model:
    """Return a volume as JSON."""
    record = view.record
    return {
        "id": record.id,
        "session": record.session,
        "name": short_name(record.session),
        "notebook": view.notebook,
        "state": record.state.value,
        "kernelspec": record.kernelspec,
        "kernels": list(view.kernels),
        "generation": record.generation,
        "bytes": record.bytes,
        "pinned": record.pinned,
        "note": record.note,
        "created": moment(record.created),
        "acquired": moment(record.acquired),
        "stopped": moment(record.stopped),
        "path": str(view.path),
        "holder": None if view.holder is None else str(view.holder),
        "idle_shutdown_at": moment(view.idle_shutdown_at),
        "backup_due": moment(view.due.backup),
        "prune_due": moment(view.due.prune),
        "backup": None if view.backup is None else backup_model(view.backup, record),
    }


def backup_model(backup: BackupRecord, record: Record) -> Model:
    """Return a backup as JSON; `current` tells whether it holds what the volume holds now."""
    return {
        "name": backup.name,
        "created": moment(backup.created),
        "size": backup.size,
        "generation": backup.generation,
        "current": backup.generation == record.generation and record.is_backed_up,
        "partial": backup.partial,
    }


def job_model(job: Job) -> Model:
    """Return a job as JSON."""
    return {
        "id": job.id,
        "kind": job.kind,
        "volume": job.volume,
        "session": job.session,
        "state": job.state.value,
        "done_bytes": job.done_bytes,
        "total_bytes": job.total_bytes,
        "message": job.message,
        "error": None if job.code is None else {"code": job.code, "message": job.message},
        "started": moment(job.started),
        "ended": moment(job.ended),
    }


def short_name(session: str) -> str:
    """Return what people call a session at a glance: of a path the last part."""
    return os.path.basename(session.rstrip("/")) or session


def moment(value: datetime | None) -> str | None:
    """Return a time as ISO 8601 in UTC, to the second."""
    if value is None:
        return None
    return value.astimezone(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
