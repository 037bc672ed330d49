"""The backups: of which volume, where, and whether they were found whole."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from provisioner.core.record import BackupRecord
from provisioner.registry.database import Database
from provisioner.registry.schema import stored, to_backup, to_row


class Backups:
    """The rows of backups, one each; destinations inside the root are stored relative to it, as roots are moved."""

    def __init__(self, database: Database, root: Path) -> None:
        self._database = database
        self._root = root

    def add(self, backup: BackupRecord) -> None:
        """Enter a backup; if it is whole and verified, its volume counts as backed up at its generation; atomic."""
        row = {**to_row(backup), "destination": self._from_root(backup.destination)}

        def work(connection: sqlite3.Connection) -> None:
            statement = "INSERT OR REPLACE INTO backups VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            connection.execute(statement, list(row.values()))
            # A volume whose record was lost continues from its backups' generation: an old backup never counts as a
            # backup of a later state.
            connection.execute(
                "UPDATE volumes SET generation = max(generation, ?) WHERE id = ?",
                (backup.generation, backup.id),
            )
            _count_backups(connection, backup.id)
            connection.execute(
                "UPDATE volumes SET bytes = ? WHERE id = ? AND generation = ?",
                (backup.bytes, backup.id, backup.generation),
            )

        self._database.write(work)

    def set_verified(self, backup: BackupRecord, moment: datetime | None) -> None:
        """Record when a backup was last found whole, or None if it is not; a deleted backup stays deleted."""
        self._change("UPDATE backups SET verified = ?", backup, stored(moment))

    def remove(self, backup: BackupRecord) -> None:
        """Forget a backup that was deleted or found damaged; its volume may count as not backed up again; atomic."""
        self._change("DELETE FROM backups", backup)

    def _change(self, statement: str, backup: BackupRecord, *values: object) -> None:
        # Earlier versions stored all destinations in full.
        spellings = (self._from_root(backup.destination), backup.destination)

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                f"{statement} WHERE name = ? AND destination IN (?, ?)",
                (*values, backup.name, *spellings),
            )
            _count_backups(connection, backup.id)

        self._database.write(work)

    def all(self, volume_id: str | None = None) -> list[BackupRecord]:
        """Return the backups of one volume, or all, newest first."""
        which, values = ("", ()) if volume_id is None else ("WHERE id = ?", (volume_id,))
        return self._database.read(
            f"SELECT * FROM backups {which} ORDER BY generation DESC, created DESC",  # noqa: S608 - texts of this method
            values,
            self._to_backup,
        )

    def volumes_with_aged(self, created_before: datetime) -> list[str]:
        """Return the ids of the volumes that have a backup that old and more than one backup."""
        return self._database.read(
            "SELECT DISTINCT id FROM backups WHERE created < ? "
            "AND id IN (SELECT id FROM backups GROUP BY id HAVING count(*) > 1)",
            (stored(created_before),),
            lambda row: str(row[0]),
        )

    def _from_root(self, destination: str) -> str:
        return destination.removeprefix(f"{self._root}{os.sep}")

    def _to_backup(self, row: sqlite3.Row) -> BackupRecord:
        backup = to_backup(row)
        if "://" in backup.destination:
            return backup
        return replace(backup, destination=os.path.join(self._root, backup.destination))


def _count_backups(connection: sqlite3.Connection, volume_id: str) -> None:
    connection.execute(
        "UPDATE volumes SET backed_up = (SELECT coalesce(max(generation), -1) FROM backups "
        "WHERE id = volumes.id AND partial = 0 AND verified IS NOT NULL), "
        "retry = NULL, failures = 0 WHERE id = ?",
        (volume_id,),
    )
