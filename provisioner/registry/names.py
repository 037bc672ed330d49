"""The names of volumes: who bears which session's name, and who bore it last."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from provisioner.core.record import Record
from provisioner.registry.schema import number
from provisioner.registry.table import Table, of_id


class Names(Table):
    """The part of the registry that knows volumes by their present and their former names."""

    def find(self, session: str) -> Record | None:
        """Return the volume that bears this name now."""
        return self._one("SELECT * FROM volumes WHERE session = ?", (session,))

    def find_former(self, session: str) -> Record | None:
        """Return the volume that was last renamed away from this name."""
        return self._one(
            "SELECT v.* FROM volumes v JOIN former_names f USING (id) WHERE f.session = ?",
            (session,),
        )

    def names(self, volume_id: str) -> list[str]:
        """Return the name of the volume with this id, and the names it was last renamed away from."""
        rows = self._rows(
            "SELECT session FROM volumes WHERE id = ? UNION SELECT session FROM former_names WHERE id = ?",
            (volume_id, volume_id),
        )
        return [row[0] for row in rows]

    def relabel(
        self, volume_id: str, session: str, now: datetime, aside: str | None = None
    ) -> Record | None:
        """Give a volume a new name and remember the old one; atomic.

        Parameters
        ----------
        volume_id, session
            The volume and its new name.
        now
            The time.
        aside
            The volume that bears the new name now and is to be named `<session> (2)`, or the next number that is
            free; the caller holds its lease.

        Returns
        -------
        The new record; None if there is no such volume, or another one than `aside` bears the name.
        """

        def work(connection: sqlite3.Connection) -> Record | None:
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
                connection.execute("UPDATE volumes SET session = ? WHERE id = ?", (free, aside))
            if old[0] != session:
                connection.execute(
                    "INSERT OR REPLACE INTO former_names VALUES (?, ?, ?)",
                    (old[0], volume_id, number(now)),
                )
                forget_former(connection, session)
                connection.execute(
                    "UPDATE volumes SET session = ? WHERE id = ?", (session, volume_id)
                )
            return of_id(connection, volume_id)

        return self._write(work)


def free_name(connection: sqlite3.Connection, session: str, volume_id: str = "") -> str:
    """Return `session`, with a number behind it if another volume than this one bears that name."""
    name, serial = session, 1
    while connection.execute(
        "SELECT 1 FROM volumes WHERE session = ? AND id != ?", (name, volume_id)
    ).fetchone():
        serial += 1
        name = f"{session} ({serial})"
    return name


def forget_former(connection: sqlite3.Connection, session: str) -> None:
    """Forget who was renamed away from a name: a volume bears it now."""
    connection.execute("DELETE FROM former_names WHERE session = ?", (session,))
