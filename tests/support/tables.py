"""Records that the tests of the table enter."""

from __future__ import annotations

from datetime import datetime, timezone

from provisioner.core.record import BackupRecord

NOW = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)


def backup_of(
    volume_id: str,
    generation: int,
    name: str = "b",
    *,
    partial: bool = False,
    verified: datetime | None = NOW,
) -> BackupRecord:
    """Return the record of a backup; by default it is whole and verified."""
    return BackupRecord(name, "/d", volume_id, generation, NOW, 1, 2, 3, partial, verified)
