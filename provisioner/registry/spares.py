"""The spares: volumes made ready in advance, counted and claimed."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import datetime

from provisioner.core.record import Record, Spare, State
from provisioner.registry.database import Database, of_id
from provisioner.registry.names import forget_former
from provisioner.registry.schema import stored
from provisioner.registry.volumes import insert, require_slot


class Spares:
    """The volumes that no session has claimed yet."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self, volume_id: str, kernelspec: str, now: datetime, wanted: int, capacity: int
    ) -> Record | None:
        """Enter a spare that is being made; None if the kernelspec has as many as wanted; atomic among processes.

        Raises `PoolFull` if all `capacity` slots are taken.
        """

        def work(connection: sqlite3.Connection) -> Record | None:
            present = connection.execute(
                "SELECT count(*) FROM volumes WHERE kernelspec = ? AND spare IS NOT NULL",
                (kernelspec,),
            ).fetchone()[0]
            if present >= wanted:
                return None
            require_slot(connection, capacity)
            name = f"spare:{volume_id}"
            born = Record(volume_id, name, kernelspec, State.STOPPED, 0, now, stopped=now)
            spare = replace(born, spare=Spare.MAKING)
            insert(connection, spare)
            return spare

        return self._database.write(work)

    def set(self, volume_id: str, spare: Spare) -> Record:
        """Record how far a spare is."""
        return self._database.change(volume_id, "spare = ?", spare.value)

    def all(self, kernelspec: str | None = None) -> list[Record]:
        """Return the spares of one kernelspec, or all."""
        return self._database.volumes(
            "SELECT * FROM volumes WHERE spare IS NOT NULL AND kernelspec = ifnull(?, kernelspec) "
            "ORDER BY created",
            kernelspec,
        )

    def claim(self, session: str, kernelspec: str, now: datetime) -> Record | None:
        """Give a ready spare the name of a new session, if there is a spare and no volume has the name; atomic."""

        def work(connection: sqlite3.Connection) -> Record | None:
            if connection.execute("SELECT 1 FROM volumes WHERE session = ?", (session,)).fetchone():
                return None
            found = connection.execute(
                "SELECT id FROM volumes WHERE kernelspec = ? AND spare = 'ready' ORDER BY created LIMIT 1",
                (kernelspec,),
            ).fetchone()
            if found is None:
                return None
            connection.execute(
                "UPDATE volumes SET session = ?, spare = NULL, created = ?, stopped = ? WHERE id = ?",
                (session, stored(now), stored(now), found[0]),
            )
            forget_former(connection, session)
            return of_id(connection, found[0])

        return self._database.write(work)
