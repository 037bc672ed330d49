"""A table: rows of volumes read as records, and changed one at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from provisioner.core.errors import RegistryUnusable
from provisioner.core.record import Record
from provisioner.registry.database import Database
from provisioner.registry.schema import first, to_record


class Table:
    """One part of the registry; all parts share one database.

    Parameters
    ----------
    database
        The file.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._write = database.write

    def _one(self, query: str, values: Sequence[object]) -> Record | None:
        rows = self._many(query, values)
        return rows[0] if rows else None

    def _many(self, query: str, values: Sequence[object] = ()) -> list[Record]:
        return self._database.read(query, values, to_record)

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        return self._database.read(query, values, lambda row: row)

    def _change(self, volume_id: str, assignments: str, values: Sequence[object]) -> Record:
        def work(connection: sqlite3.Connection) -> Record:
            connection.execute(
                f"UPDATE volumes SET {assignments} WHERE id = ?",  # noqa: S608 - texts of the tables
                (*values, volume_id),
            )
            record = of_id(connection, volume_id)
            if record is None:
                raise RegistryUnusable(
                    f"The volume {volume_id} has disappeared from {self._database.path}; "
                    "run `jupyter volumes doctor`."
                )
            return record

        return self._write(work)


def of_id(connection: sqlite3.Connection, volume_id: str) -> Record | None:
    """Return the volume with this id, within a transaction."""
    return first(connection.execute("SELECT * FROM volumes WHERE id = ?", (volume_id,)))
