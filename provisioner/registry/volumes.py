"""The volumes: their states, the slots they take, and what is due."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import datetime

from provisioner.core.errors import PoolFull
from provisioner.core.record import Record, State
from provisioner.registry.database import Database
from provisioner.registry.names import forget_former, free_name
from provisioner.registry.schema import stored, to_record, to_row


class Volumes:
    """The rows of volumes, one each."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, volume_id: str) -> Record | None:
        """Return the volume with this id, if there is one."""
        return self._database.volume("SELECT * FROM volumes WHERE id = ?", volume_id)

    def all(self) -> list[Record]:
        """Return all volumes, by name."""
        return self._database.volumes("SELECT * FROM volumes ORDER BY session")

    def active(self) -> list[Record]:
        """Return the volumes whose record says that they are in use."""
        return self._database.volumes("SELECT * FROM volumes WHERE state = 'active'")

    def create(
        self, volume_id: str, session: str, kernelspec: str, now: datetime, capacity: int
    ) -> Record:
        """Return the volume of `session`, a new one with the given id if there is none; atomic among processes.

        Raises `PoolFull` if a slot is needed and all `capacity` slots are taken.
        """

        def work(connection: sqlite3.Connection) -> Record:
            query = "SELECT * FROM volumes WHERE session = ?"
            if found := connection.execute(query, (session,)).fetchone():
                return to_record(found)
            require_slot(connection, capacity)
            born = Record(volume_id, session, kernelspec, State.STOPPED, 0, now, stopped=now)
            insert(connection, born)
            forget_former(connection, session)
            return born

        return self._database.write(work)

    def take_slot(self, volume_id: str, now: datetime, capacity: int) -> None:
        """Let a pruned volume take a slot of the pool again, before its files are brought back.

        Raises `PoolFull` if all `capacity` slots are taken.
        """

        def work(connection: sqlite3.Connection) -> None:
            row = connection.execute("SELECT state FROM volumes WHERE id = ?", (volume_id,))
            if tuple(row.fetchone() or ()) == (State.PRUNED.value,):
                require_slot(connection, capacity)
                statement = "UPDATE volumes SET state = 'stopped', stopped = ? WHERE id = ?"
                connection.execute(statement, (stored(now), volume_id))

        self._database.write(work)

    def activate(self, volume_id: str, kernelspec: str, now: datetime) -> Record:
        """Mark a volume active and count its generation up; return the new record.

        The caller holds the volume's lease and its files are on disk.
        """
        return self._database.change(
            volume_id,
            "state = 'active', generation = generation + 1, kernelspec = ?, acquired = ?, stopped = NULL, "
            "note = '', retry = NULL, failures = 0",
            kernelspec,
            stored(now),
        )

    def deactivate(self, volume_id: str, now: datetime) -> Record:
        """Mark an active volume stopped, as of now; any other volume stays as it is."""
        return self._database.change(
            volume_id,
            "stopped = CASE state WHEN 'active' THEN ? ELSE stopped END, "
            "state = CASE state WHEN 'active' THEN 'stopped' ELSE state END",
            stored(now),
        )

    def mark_pruned(self, volume_id: str) -> Record:
        """Record that a volume's files are gone from disk."""
        return self._database.change(volume_id, "state = 'pruned', bytes = NULL")

    def set_generation(self, volume_id: str, generation: int, now: datetime) -> Record:
        """Record that a volume's files were replaced by those of an older backup: stopped now, of a new generation."""
        return self._database.change(
            volume_id, "generation = ?, stopped = ?", generation, stored(now)
        )

    def set_pinned(self, volume_id: str, pinned: bool) -> Record:
        """Pin a volume (it is never pruned or evicted) or unpin it."""
        return self._database.change(volume_id, "pinned = ?", int(pinned))

    def set_note(self, volume_id: str, note: str) -> Record:
        """Store a remark that people see in lists, such as that the notebook was deleted."""
        return self._database.change(volume_id, "note = ?", note)

    def set_bytes(self, volume_id: str, size: int) -> Record:
        """Store the size of a volume's files in bytes, as last measured."""
        return self._database.change(volume_id, "bytes = ?", size)

    def postpone_backup(self, volume_id: str, until: datetime) -> Record:
        """Record that a backup failed and when it is tried again."""
        return self._database.change(volume_id, "retry = ?, failures = failures + 1", stored(until))

    def forget(self, volume_id: str) -> None:
        """Remove a volume that has neither files nor backups from the table."""
        self._database.write(
            lambda connection: connection.execute("DELETE FROM volumes WHERE id = ?", (volume_id,))
        )

    def adopt(self, record: Record) -> None:
        """Enter a volume found on disk or in a backup; a volume already known stays as it is."""

        def work(connection: sqlite3.Connection) -> None:
            session = free_name(connection, record.session, record.id)
            insert(connection, replace(record, session=session), unless_known=True)

        self._database.write(work)

    def slots_taken(self) -> int:
        """Return how many volumes have files on disk."""
        return self._total("places")

    # -- what is due -----------------------------------------------------------------------------------------

    def to_back_up(self, stopped_before: datetime, now: datetime) -> list[Record]:
        """Return the stopped volumes without a backup of their generation, longest stopped first."""
        return self._database.volumes(
            "SELECT * FROM volumes WHERE state = 'stopped' AND backed_up < generation AND stopped <= ? "
            "AND (retry IS NULL OR retry <= ?) ORDER BY stopped",
            stored(stopped_before),
            stored(now),
        )

    def to_prune(self, stopped_before: datetime) -> list[Record]:
        """Return the stopped, backed-up, unpinned volumes, longest stopped first."""
        return self._database.volumes(
            "SELECT * FROM volumes WHERE state = 'stopped' AND pinned = 0 AND backed_up = generation "
            "AND stopped <= ? ORDER BY stopped",
            stored(stopped_before),
        )

    def unborn(self) -> list[Record]:
        """Return the volumes that were entered but never made: their process was killed, or is making them now."""
        return self._database.volumes(
            "SELECT * FROM volumes WHERE generation = 0 AND state = 'stopped' AND spare IS NOT 'ready'"
        )

    def bytes_on_disk(self) -> int:
        """Return the bytes of all volumes with files on disk, as far as measured."""
        return self._total("bytes")

    def _total(self, column: str) -> int:
        return self._database.read(f"SELECT {column} FROM totals", (), lambda row: int(row[0]))[0]  # noqa: S608


def insert(connection: sqlite3.Connection, record: Record, *, unless_known: bool = False) -> None:
    """Enter a volume's row; with `unless_known`, leave one that is there as it is."""
    row = to_row(record)
    verb = "INSERT OR IGNORE" if unless_known else "INSERT"
    connection.execute(
        f"{verb} INTO volumes ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",
        list(row.values()),
    )


def require_slot(connection: sqlite3.Connection, capacity: int) -> None:
    """Refuse a volume (`PoolFull`) for which none of the pool's places is left."""
    taken = connection.execute("SELECT places FROM totals").fetchone()[0]
    if taken >= capacity:
        raise PoolFull(f"All {capacity} slots of the pool are taken.")
