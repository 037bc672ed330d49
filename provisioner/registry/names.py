"""The names of volumes: which volume has which session's name, and which had it last."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from provisioner.core.record import Record
from provisioner.registry.database import Database, of_id
from provisioner.registry.schema import stored


class Names:
    """Finds volumes by their present and their former names."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, session: str) -> Record | None:
        """Return the volume that has this name now."""
        return self._database.volume("SELECT * FROM volumes WHERE session = ?", session)

    def find_former(self, session: str) -> Record | None:
        """Return the volume that was last renamed away from this name."""
        return self._database.volume(
            "SELECT v.* FROM volumes v JOIN former_names f USING (id) WHERE f.session = ?", session
        )

    def of(self, volume_id: str) -> list[str]:
        """Return the name of the volume with this id, and the names it was last renamed away from."""
        return self._database.read(
            "SELECT session FROM volumes WHERE id = ? UNION SELECT session FROM former_names WHERE id = ?",
            (volume_id, volume_id),
            lambda row: str(row[0]),
        )

    def relabel(
        self, volume_id: str, session: str, now: datetime, aside: str | None = None
    ) -> Record | None:
        """Give a volume a new name and remember the old one; atomic.

        The volume `aside`, whose lease the caller holds, may have the new name until now: it is renamed
        `<session> (2)`, or the next number that is free. Returns the new record; None if there is no such volume, or
        another volume has the name.
        """

        def work(connection: sqlite3.Connection) -> Record | None:
            rename = "UPDATE volumes SET session = ? WHERE id = ?"
            row = connection.execute("SELECT session FROM volumes WHERE id = ?", (volume_id,))
            old = row.fetchone()
            taken = connection.execute(
                "SELECT id FROM volumes WHERE session = ? AND id != ?", (session, volume_id)
            ).fetchone()
            if old is None or (taken and taken[0] != aside):
                return None
            if taken:
                free = free_name(connection, session)
                forget_former(connection, free)
                connection.execute(rename, (free, aside))
            if old[0] != session:
                statement = "INSERT OR REPLACE INTO former_names VALUES (?, ?, ?)"
                connection.execute(statement, (old[0], volume_id, stored(now)))
                forget_former(connection, session)
                connection.execute(rename, (session, volume_id))
            return of_id(connection, volume_id)

        return self._database.write(work)


def free_name(connection: sqlite3.Connection, session: str, volume_id: str = "") -> str:
    """Return `session`, with a number behind it if another volume than this one has that name."""
    name, serial = session, 1
    while connection.execute(
        "SELECT 1 FROM volumes WHERE session = ? AND id != ?", (name, volume_id)
    ).fetchone():
        serial += 1
        name = f"{session} ({serial})"
    return name


def forget_former(connection: sqlite3.Connection, session: str) -> None:
    """Forget which volume was renamed away from a name: another volume has it now."""
    connection.execute("DELETE FROM former_names WHERE session = ?", (session,))
