"""Volumes, backups and jobs as JSON values. Pure."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from enum import Enum
from typing import Any

from provisioner.core.record import BackupRecord, Record
from provisioner.server.rest.jobs import Job
from provisioner.server.rest.volumes import View

Model = dict[str, Any]


def volume_model(view: View) -> Model:
    """Return a volume as JSON."""
    record = view.record
    return {
        **_plain_fields(record, "backed_up", "retry", "failures", "spare"),
        # A short form for display: of a path the last part.
        "name": os.path.basename(record.session.rstrip("/")) or record.session,
        "notebook": view.notebook,
        "kernels": list(view.kernels),
        "path": str(view.path),
        "holder": None if view.holder is None else str(view.holder),
        "idle_shutdown_at": _plain(view.idle_shutdown_at),
        "backup_due": _plain(view.due.backup),
        "prune_due": _plain(view.due.prune),
        "backup": None if view.backup is None else backup_model(view.backup, record),
    }


def backup_model(backup: BackupRecord, record: Record) -> Model:
    """Return a backup as JSON; `current` is whether it holds the volume's present files."""
    is_current = backup.generation == record.generation and record.is_backed_up
    plain = _plain_fields(backup, "destination", "id", "files", "bytes", "verified")
    return {**plain, "current": is_current}


def job_model(job: Job) -> Model:
    """Return a job as JSON."""
    error = None if job.code is None else {"code": job.code, "message": job.message}
    return {**_plain_fields(job, "backup", "code"), "error": error}


def _plain_fields(of: object, *left_out: str) -> Model:
    return {name: _plain(value) for name, value in vars(of).items() if name not in left_out}


def _plain(value: object) -> object:
    """Return a value as JSON has it: a time as ISO 8601 in UTC, to the second."""
    if isinstance(value, datetime):
        iso = value.astimezone(timezone.utc).isoformat(timespec="seconds")
        return iso.replace("+00:00", "Z")
    return value.value if isinstance(value, Enum) else value
