"""Volumes, backups and jobs as JSON values. Pure."""

from __future__ import annotations

from typing import Any

from provisioner.core.record import BackupRecord, Record
from provisioner.server.rest.formatting import short_name, timestamp
from provisioner.server.rest.jobs import Job
from provisioner.server.rest.volumes import View

Model = dict[str, Any]


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
        "kernels": list(view.running.kernels),
        "generation": record.generation,
        "bytes": record.bytes,
        "pinned": record.pinned,
        "note": record.note,
        "created": timestamp(record.created),
        "acquired": timestamp(record.acquired),
        "stopped": timestamp(record.stopped),
        "path": str(view.path),
        "holder": None if view.holder is None else str(view.holder),
        "idle_shutdown_at": timestamp(view.running.idle_shutdown_at),
        "backup_due": timestamp(view.due.backup),
        "prune_due": timestamp(view.due.prune),
        "backup": None if view.backup is None else backup_model(view.backup, record),
    }


def backup_model(backup: BackupRecord, record: Record) -> Model:
    """Return a backup as JSON; `current` is whether it holds the volume's present files."""
    return {
        "name": backup.name,
        "created": timestamp(backup.created),
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
        "started": timestamp(job.started),
        "ended": timestamp(job.ended),
    }
