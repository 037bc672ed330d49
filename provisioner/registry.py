"""The table of volumes, their former names and their backups. How its file is shared, `database` knows."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from datetime import datetime, timedelta
from pathlib import Path

from .database import PATIENCE, Database, Recover
from .database import is_damage as is_damage  # asked by who catches RegistryUnusable
from .errors import PoolFull, RegistryUnusable
from .record import BackupRecord, Record, Spare, State
from .schema import MIGRATIONS, first, number, stored, to_backup, to_record, to_row

FILE_NAME = "registry.sqlite3"


class Registry:
    """The table under one root.

    Parameters
    ----------
    path
        The database file.
    recover
        Called when the file is missing or turns out to be damaged; puts a rebuilt one in its place (see
        `database.Recover`). Without it, a lost table is an error.
    patience
        How long to wait for another process that writes.
    create
        Whether to make the file if it does not exist.
    relieve
        Called when the disk is full; makes room, and returns whether there was any to make.
    root
        The root whose table it is, if it does not lie there yet.

    Raises
    ------
    RegistryUnusable
        If the file cannot be opened, is damaged, or was written by a newer version.
    """

    def __init__(
        self,
        path: Path,
        recover: Recover | None = None,
        patience: timedelta = PATIENCE,
        create: bool = False,
        relieve: Callable[[], bool] | None = None,
        root: Path | None = None,
    ) -> None:
        self.path = path
        self._root = root or path.parent
        self._database = Database(path, MIGRATIONS, recover, patience, create, relieve)
        self._write = self._database.write

    def close(self) -> None:
        """Close the database; calling it twice is harmless."""
        self._database.close()

    def check(self) -> None:
        """Read the table's first pages and its schema.

        Raises
        ------
        RegistryUnusable
            If they are damaged. The whole file is checked by `check_all`.
        """
        for table in ("sqlite_master", "volumes", "former_names", "backups"):
            self._rows(f"SELECT * FROM {table} LIMIT 1")  # noqa: S608 - names of this module

    def check_all(self) -> list[str]:
        """Check every page and read every row; return what is wrong, nothing if all is well."""
        try:
            wrong = [str(row[0]) for row in self._rows("PRAGMA integrity_check")]
            self.volumes()
            self.backups()
        except RegistryUnusable as error:
            if not is_damage(error):
                raise
            return [str(error)]
        return [line for line in wrong if line != "ok"]

    # -- volumes ---------------------------------------------------------------------------------------------

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

    def get(self, volume_id: str) -> Record | None:
        """Return the volume with this id."""
        return self._one("SELECT * FROM volumes WHERE id = ?", (volume_id,))

    def volumes(self) -> list[Record]:
        """Return all volumes, by name."""
        return self._many("SELECT * FROM volumes ORDER BY session")

    def active(self) -> list[Record]:
        """Return the volumes that say they are in use."""
        return self._many("SELECT * FROM volumes WHERE state = 'active'")

    def create(
        self, volume_id: str, session: str, kernelspec: str, now: datetime, capacity: int
    ) -> Record:
        """Return the volume of `session`, a new one with the given id if there is none; atomic among processes.

        Raises
        ------
        PoolFull
            If a place is needed and all `capacity` places are taken.
        """

        def work(connection: sqlite3.Connection) -> Record:
            found = first(connection.execute("SELECT * FROM volumes WHERE session = ?", (session,)))
            if found is not None:
                return found
            _require_place(connection, capacity)
            connection.execute(
                "INSERT INTO volumes (id, session, kernelspec, state, generation, created, stopped) "
                "VALUES (?, ?, ?, 'stopped', 0, ?, ?)",
                (volume_id, session, kernelspec, number(now), number(now)),
            )
            connection.execute("DELETE FROM former_names WHERE session = ?", (session,))
            return Record(volume_id, session, kernelspec, State.STOPPED, 0, now, stopped=now)

        return self._write(work)

    def take_place(self, volume_id: str, now: datetime, capacity: int) -> None:
        """Let a pruned volume take a place of the pool again, before its files are brought back.

        Raises
        ------
        PoolFull
            If all `capacity` places are taken.
        """

        def work(connection: sqlite3.Connection) -> None:
            row = connection.execute("SELECT state FROM volumes WHERE id = ?", (volume_id,))
            if tuple(row.fetchone() or ()) == (State.PRUNED.value,):
                _require_place(connection, capacity)
                connection.execute(
                    "UPDATE volumes SET state = 'stopped', stopped = ? WHERE id = ?",
                    (number(now), volume_id),
                )

        self._write(work)

    def activate(self, volume_id: str, kernelspec: str, now: datetime) -> Record:
        """Mark a volume active and count its generation up; return the new record.

        The caller holds the volume's lease and its files are on disk.
        """
        return self._change(
            volume_id,
            "state = 'active', generation = generation + 1, kernelspec = ?, acquired = ?, stopped = NULL, "
            "note = '', retry = NULL, failures = 0",
            (kernelspec, number(now)),
        )

    def deactivate(self, volume_id: str, now: datetime) -> Record:
        """Mark an active volume stopped, as of now; anything else stays as it is."""
        return self._change(
            volume_id,
            "stopped = CASE state WHEN 'active' THEN ? ELSE stopped END, "
            "state = CASE state WHEN 'active' THEN 'stopped' ELSE state END",
            (number(now),),
        )

    def mark_pruned(self, volume_id: str) -> Record:
        """Record that a volume's files are gone from disk."""
        return self._change(volume_id, "state = 'pruned', bytes = NULL", ())

    def set_generation(self, volume_id: str, generation: int, now: datetime) -> Record:
        """Record that a volume's files were replaced by those of an older backup: stopped now, of a new generation."""
        return self._change(volume_id, "generation = ?, stopped = ?", (generation, number(now)))

    def set_pinned(self, volume_id: str, pinned: bool) -> Record:
        """Pin a volume (it is never pruned or evicted) or unpin it."""
        return self._change(volume_id, "pinned = ?", (int(pinned),))

    def set_note(self, volume_id: str, note: str) -> Record:
        """Keep a remark that people see in listings, such as that the notebook was deleted."""
        return self._change(volume_id, "note = ?", (note,))

    def set_bytes(self, volume_id: str, size: int) -> Record:
        """Keep the size of a volume's files, in bytes, as last measured."""
        return self._change(volume_id, "bytes = ?", (size,))

    def postpone_backup(self, volume_id: str, until: datetime) -> Record:
        """Record that a backup failed and when it is tried again."""
        return self._change(volume_id, "retry = ?, failures = failures + 1", (number(until),))

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
                free = _free_name(connection, session)
                connection.execute("DELETE FROM former_names WHERE session = ?", (free,))
                connection.execute("UPDATE volumes SET session = ? WHERE id = ?", (free, aside))
            if old[0] != session:
                connection.execute(
                    "INSERT OR REPLACE INTO former_names VALUES (?, ?, ?)",
                    (old[0], volume_id, number(now)),
                )
                connection.execute("DELETE FROM former_names WHERE session = ?", (session,))
                connection.execute(
                    "UPDATE volumes SET session = ? WHERE id = ?", (session, volume_id)
                )
            return first(connection.execute("SELECT * FROM volumes WHERE id = ?", (volume_id,)))

        return self._write(work)

    def forget(self, volume_id: str) -> None:
        """Remove a volume that has neither files nor backups from the table."""
        self._write(
            lambda connection: connection.execute("DELETE FROM volumes WHERE id = ?", (volume_id,))
        )

    def adopt(self, record: Record) -> None:
        """Enter a volume found on disk or in a backup; a volume already known stays as it is."""

        def work(connection: sqlite3.Connection) -> None:
            session = _free_name(connection, record.session, record.id)
            row = to_row(replace(record, session=session))
            connection.execute(
                f"INSERT OR IGNORE INTO volumes ({', '.join(row)}) "  # noqa: S608 - our own column names
                f"VALUES ({', '.join('?' * len(row))})",
                list(row.values()),
            )

        self._write(work)

    def places_taken(self) -> int:
        """Return how many volumes have files on disk."""
        return int(self._rows("SELECT places FROM totals")[0][0])

    # -- what is due -----------------------------------------------------------------------------------------

    def to_back_up(self, stopped_before: datetime, now: datetime) -> list[Record]:
        """Return the stopped volumes without a backup of their generation, longest stopped first."""
        return self._many(
            "SELECT * FROM volumes WHERE state = 'stopped' AND backed_up < generation AND stopped <= ? "
            "AND (retry IS NULL OR retry <= ?) ORDER BY stopped",
            (number(stopped_before), number(now)),
        )

    def to_prune(self, stopped_before: datetime) -> list[Record]:
        """Return the stopped, backed-up, unpinned volumes, longest stopped first."""
        return self._many(
            "SELECT * FROM volumes WHERE state = 'stopped' AND pinned = 0 AND backed_up = generation "
            "AND stopped <= ? ORDER BY stopped",
            (number(stopped_before),),
        )

    def unborn(self) -> list[Record]:
        """Return the volumes that were entered but never made ready: their maker was stopped, or is at it now."""
        return self._many(
            "SELECT * FROM volumes WHERE generation = 0 AND state = 'stopped' AND spare IS NOT 'ready'"
        )

    def bytes_on_disk(self) -> int:
        """Return the bytes of all volumes with files on disk, as far as they were measured."""
        return int(self._rows("SELECT bytes FROM totals")[0][0])

    # -- spares ----------------------------------------------------------------------------------------------

    def create_spare(
        self, volume_id: str, kernelspec: str, now: datetime, wanted: int, capacity: int
    ) -> Record | None:
        """Enter a spare that is being made; None if the kernelspec has as many as wanted; atomic among processes.

        Raises
        ------
        PoolFull
            If all `capacity` places are taken.
        """

        def work(connection: sqlite3.Connection) -> Record | None:
            present = connection.execute(
                "SELECT count(*) FROM volumes WHERE kernelspec = ? AND spare IS NOT NULL",
                (kernelspec,),
            ).fetchone()[0]
            if present >= wanted:
                return None
            _require_place(connection, capacity)
            connection.execute(
                "INSERT INTO volumes (id, session, kernelspec, state, generation, created, stopped, spare) "
                "VALUES (?, ?, ?, 'stopped', 0, ?, ?, 'making')",
                (volume_id, f"spare:{volume_id}", kernelspec, number(now), number(now)),
            )
            return first(connection.execute("SELECT * FROM volumes WHERE id = ?", (volume_id,)))

        return self._write(work)

    def set_spare(self, volume_id: str, spare: Spare) -> Record:
        """Record how far a spare is."""
        return self._change(volume_id, "spare = ?", (spare.value,))

    def spares(self, kernelspec: str | None = None) -> list[Record]:
        """Return the spares of one kernelspec, or all."""
        if kernelspec is None:
            return self._many("SELECT * FROM volumes WHERE spare IS NOT NULL ORDER BY created")
        return self._many(
            "SELECT * FROM volumes WHERE spare IS NOT NULL AND kernelspec = ? ORDER BY created",
            (kernelspec,),
        )

    def claim_spare(self, session: str, kernelspec: str, now: datetime) -> Record | None:
        """Give a ready spare the name of a new session, if there is one and nobody bears the name; atomic."""

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
                (session, number(now), number(now), found[0]),
            )
            connection.execute("DELETE FROM former_names WHERE session = ?", (session,))
            return first(connection.execute("SELECT * FROM volumes WHERE id = ?", (found[0],)))

        return self._write(work)

    # -- backups ---------------------------------------------------------------------------------------------

    def add_backup(self, backup: BackupRecord) -> None:
        """Enter a backup; if it is whole and verified, its volume counts as backed up at its generation; atomic."""
        own = replace(backup, destination=self._from_root(backup.destination))

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT OR REPLACE INTO backups VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [stored(getattr(own, field.name)) for field in fields(own)],
            )
            # A volume whose record was lost counts from its backups on: an old one never passes for a later state.
            connection.execute(
                "UPDATE volumes SET generation = max(generation, ?) WHERE id = ?",
                (backup.generation, backup.id),
            )
            _count_backups(connection, backup.id)
            connection.execute(
                "UPDATE volumes SET bytes = ? WHERE id = ? AND generation = ?",
                (backup.bytes, backup.id, backup.generation),
            )

        self._write(work)

    def set_verified(self, backup: BackupRecord, moment: datetime | None) -> None:
        """Record when a backup was last found whole, or that it is not; one that was deleted meanwhile stays so."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE backups SET verified = ? WHERE name = ? AND destination IN (?, ?)",
                (stored(moment), backup.name, *self._spellings(backup.destination)),
            )
            _count_backups(connection, backup.id)

        self._database.write(work)

    def remove_backup(self, backup: BackupRecord) -> None:
        """Forget a backup that was deleted or found damaged; its volume may count as not backed up again; atomic."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "DELETE FROM backups WHERE name = ? AND destination IN (?, ?)",
                (backup.name, *self._spellings(backup.destination)),
            )
            _count_backups(connection, backup.id)

        self._write(work)

    def backups(self, volume_id: str | None = None) -> list[BackupRecord]:
        """Return the backups of one volume, or all, newest first."""
        which, values = ("", ()) if volume_id is None else ("WHERE id = ?", (volume_id,))
        return self._database.read(
            f"SELECT * FROM backups {which} ORDER BY generation DESC, created DESC",  # noqa: S608 - texts of this method
            values,
            self._to_backup,
        )

    def aged_backups(self, created_before: datetime) -> list[str]:
        """Return the ids of the volumes that have a backup that old and more than one backup."""
        rows = self._rows(
            "SELECT DISTINCT id FROM backups WHERE created < ? "
            "AND id IN (SELECT id FROM backups GROUP BY id HAVING count(*) > 1)",
            (number(created_before),),
        )
        return [row[0] for row in rows]

    def _from_root(self, destination: str) -> str:
        """Return a destination as it lies in a row: if it is inside the root, from there on, as roots are moved."""
        return destination.removeprefix(f"{self._root}{os.sep}")

    def _spellings(self, destination: str) -> tuple[str, str]:
        """Return how rows may have a destination: seen from the root, or in full."""
        return self._from_root(destination), destination

    def _to_backup(self, row: sqlite3.Row) -> BackupRecord:
        backup = to_backup(row)
        if "://" in backup.destination:
            return backup
        return replace(backup, destination=os.path.join(self._root, backup.destination))

    # -- reading and writing ---------------------------------------------------------------------------------

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
                f"UPDATE volumes SET {assignments} WHERE id = ?",  # noqa: S608 - texts of this module
                (*values, volume_id),
            )
            record = first(connection.execute("SELECT * FROM volumes WHERE id = ?", (volume_id,)))
            if record is None:
                raise RegistryUnusable(
                    f"The volume {volume_id} has disappeared from {self.path}; "
                    "run `jupyter volumes doctor`."
                )
            return record

        return self._write(work)


def _require_place(connection: sqlite3.Connection, capacity: int) -> None:
    taken = connection.execute("SELECT places FROM totals").fetchone()[0]
    if taken >= capacity:
        raise PoolFull(f"All {capacity} places of the pool are taken.")


def _free_name(connection: sqlite3.Connection, session: str, volume_id: str = "") -> str:
    """Return `session`, with a number behind it if another volume than this one bears that name."""
    name, serial = session, 1
    while connection.execute(
        "SELECT 1 FROM volumes WHERE session = ? AND id != ?", (name, volume_id)
    ).fetchone():
        serial += 1
        name = f"{session} ({serial})"
    return name


def _count_backups(connection: sqlite3.Connection, volume_id: str) -> None:
    connection.execute(
        "UPDATE volumes SET backed_up = (SELECT coalesce(max(generation), -1) FROM backups "
        "WHERE id = volumes.id AND partial = 0 AND verified IS NOT NULL), "
        "retry = NULL, failures = 0 WHERE id = ?",
        (volume_id,),
    )
