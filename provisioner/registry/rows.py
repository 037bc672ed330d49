"""Rows of the table `volumes`, read as records and changed one at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeVar

from provisioner.core.errors import RegistryUnusable
from provisioner.core.record import Record
from provisioner.registry.database import Database
from provisioner.registry.schema import first, to_record

T = TypeVar("T")


class Rows:
    """Reads and writes one database; all parts of the registry share it.

    Parameters
    ----------
    database
        The file.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def one(self, query: str, values: Sequence[object]) -> Record | None:
        """Return the first volume that a query gives; None if it gives none."""
        records = self.many(query, values)
        return records[0] if records else None

    def many(self, query: str, values: Sequence[object] = ()) -> list[Record]:
        """Return the volumes that a query gives."""
        return self._database.read(query, values, to_record)

    def read(
        self, query: str, values: Sequence[object], make: Callable[[sqlite3.Row], T]
    ) -> list[T]:
        """Return what `make` makes of each row that a query gives."""
        return self._database.read(query, values, make)

    def number(self, query: str) -> int:
        """Return the one number that a query gives."""
        return self._database.read(query, (), lambda row: int(row[0]))[0]

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in one transaction (see `Database.write`)."""
        return self._database.write(work)

    def change(self, volume_id: str, assignments: str, *values: object) -> Record:
        """Change one volume by the assignments of an SQL `UPDATE`; return its new record.

        Raises
        ------
        RegistryUnusable
            If there is no such volume.
        """

        def work(connection: sqlite3.Connection) -> Record:
            connection.execute(
                f"UPDATE volumes SET {assignments} WHERE id = ?",  # noqa: S608 - texts of the registry
                (*values, volume_id),
            )
            record = of_id(connection, volume_id)
            if record is None:
                raise RegistryUnusable(
                    f"The volume {volume_id} has disappeared from {self._database.path}; "
                    "run `jupyter volumes doctor`."
                )
            return record

        return self.write(work)


def of_id(connection: sqlite3.Connection, volume_id: str) -> Record | None:
    """Return the volume with this id, within a transaction."""
    return first(connection.execute("SELECT * FROM volumes WHERE id = ?", (volume_id,)))
