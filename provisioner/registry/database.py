"""One SQLite file that many processes share: opens it, migrates it, waits for it, and follows it when it is replaced.

WAL mode with `synchronous=FULL`: what a call has written survives a power failure. This module waits for another writer
with short, jittered pauses; SQLite's own busy handler was measured to starve single writers for seconds.

SQLite's locks belong to the process. A forked child that used the parent's connection, or a connection of its own
beside it, would believe that it held locks that the parent holds, and lose what it writes
(https://sqlite.org/howtocorrupt.html, 2.6). So all connections are closed before a fork, and each side opens its own.

A fork waits up to a second for a thread that is in the midst of a transaction. If it waits in vain, or the forking
thread itself is in the midst of one, the child is torn: it must never touch SQLite again, whose own mutexes are as the
parent's threads left them.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from provisioner.core.errors import RegistryUnusable
from provisioner.core.record import Record
from provisioner.registry.faults import is_busy, is_damage, is_full, unusable
from provisioner.registry.schema import MIGRATIONS, to_record
from provisioner.system.forks import Gate

T = TypeVar("T")

Recover = Callable[[bool], None]
"""Rebuilds a lost file; called with True, it reads every page of an existing one first, which may be damaged."""

PATIENCE = timedelta(seconds=10)
"""How long a call waits for a file that another process keeps locked."""

_sqlite = Gate(before_fork=lambda database: database.disconnect())
"""Closed by the thread that uses SQLite."""

_inherited: list[sqlite3.Connection] = []
"""The parent's connections in a forked child, kept so that nothing closes them."""


class Database:
    """One file; an instance serves all threads of a process, and its forks.

    Raises `RegistryUnusable` if the file cannot be opened, is damaged, or was written by a newer version.

    Parameters
    ----------
    path
        The file.
    recover
        Called when the file is missing, was replaced, or is found damaged. Without it, that is an error.
    create
        Whether to make the file if it does not exist. Never where another process may open it: it would be empty.
    relieve
        Called when the disk is full, until there is room; makes some room, and returns whether it could.
    """

    def __init__(
        self,
        path: Path,
        recover: Recover | None = None,
        create: bool = False,
        relieve: Callable[[], bool] | None = None,
    ) -> None:
        self.path = path
        self._recover = recover
        self._relieve = relieve
        self._mode = "rwc" if create else "rw"
        self._guard = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        _sqlite.register(self)
        self._patiently(lambda connection: None)

    def close(self) -> None:
        """Close the file; the next call opens it again. Calling it twice is harmless."""
        with self._guard, _sqlite.closed():
            self.disconnect()

    def read(
        self, query: str, values: Sequence[object], make: Callable[[sqlite3.Row], T]
    ) -> list[T]:
        """Return what `make` makes of each row that a query gives.

        Raises `RegistryUnusable`, saying why and what to do.
        """
        try:
            return self._patiently(
                lambda connection: [make(row) for row in connection.execute(query, values)]
            )
        except UnicodeEncodeError:
            # The query has half a character (a lone surrogate), which no row can hold.
            return []

    def volumes(self, query: str, *values: object) -> list[Record]:
        """Return the volumes that a query gives."""
        return self.read(query, values, to_record)

    def volume(self, query: str, *values: object) -> Record | None:
        """Return the first volume that a query gives; None if it gives none."""
        return next(iter(self.volumes(query, *values)), None)

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in one transaction, again from the start while another process is writing.

        Raises `RegistryUnusable`, saying why and what to do; nothing was written.
        """

        def written(connection: sqlite3.Connection) -> tuple[T, bool]:
            with _transaction(connection):
                result = work(connection)
            return result, self._is_current()

        result, is_current = self._patiently(written)
        if not is_current:
            # Another process had just set this file aside as damaged: write again, to the new file.
            result, _ = self._patiently(written)
        return result

    def change(self, volume_id: str, assignments: str, *values: object) -> Record:
        """Change one volume by the assignments of an SQL `UPDATE`; return its new record.

        Raises `RegistryUnusable` as `write`, and if there is no such volume.
        """

        def work(connection: sqlite3.Connection) -> Record:
            connection.execute(
                f"UPDATE volumes SET {assignments} WHERE id = ?",  # noqa: S608 - texts of the registry
                (*values, volume_id),
            )
            record = of_id(connection, volume_id)
            if record is None:
                raise RegistryUnusable(
                    f"The volume {volume_id} has disappeared from {self.path}; "
                    "run `jupyter volumes doctor`."
                )
            return record

        return self.write(work)

    # -- waiting and following -------------------------------------------------------------------------------

    def _patiently(self, work: Callable[[sqlite3.Connection], T]) -> T:
        deadline = time.monotonic() + PATIENCE.total_seconds()
        pause = 0.001
        recovered = False
        with self._guard:
            while True:
                try:
                    self._follow()
                    with _sqlite.closed():
                        if self._connection is None:
                            self._connection = self._open()
                        return work(self._connection)
                except sqlite3.DatabaseError as error:
                    # Everything slow happens here, where no fork waits for it.
                    if is_busy(error) and time.monotonic() < deadline:
                        time.sleep(pause * random.uniform(0.5, 1.5))
                        pause = min(pause * 1.5, 0.05)
                    elif self._recover and not recovered and self._is_lost(error):
                        recovered = True
                        self.close()
                        self._recover(True)
                    elif not (self._relieve and is_full(error, self.path) and self._relieve()):
                        raise unusable(error, self.path, PATIENCE.total_seconds()) from error

    def _follow(self) -> None:
        """Close a file that was replaced or lost, and rebuild a lost one."""
        if _sqlite.is_torn:
            raise RegistryUnusable(
                f"{self.path} cannot be used by this process, which was forked in the midst of a write by another "
                "thread; start a new one instead (`subprocess`, or `multiprocessing` with the start method 'spawn')."
            )
        if not self._is_current():
            self.close()
            if self._recover is not None:
                self._recover(False)

    def _is_lost(self, error: sqlite3.Error) -> bool:
        return is_damage(error) or not self.path.exists()

    def _is_current(self) -> bool:
        return self._connection is not None and self._identity == _identity(self.path)

    def _open(self) -> sqlite3.Connection:
        # Taken before the opening: if the file is replaced meanwhile, the next call notices.
        identity = _identity(self.path)
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?mode={self._mode}",
            uri=True,
            timeout=0,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        self._identity = identity or _identity(self.path)
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        if self._version(connection) == len(MIGRATIONS):
            return
        with _transaction(connection):
            for version in range(self._version(connection), len(MIGRATIONS)):
                for statement in MIGRATIONS[version].split(";\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {version + 1}")

    def _version(self, connection: sqlite3.Connection) -> int:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version < 0:
            raise sqlite3.DatabaseError(f"malformed schema version {version}")
        if version > len(MIGRATIONS):
            raise RegistryUnusable(
                f"{self.path} was written by a newer version of jupyter-volumes (schema {version}; this one "
                f"knows {len(MIGRATIONS)}); upgrade with `pip install -U jupyter-volumes`."
            )
        return version

    # -- forks -----------------------------------------------------------------------------------------------

    def disconnect(self) -> None:
        """Close the connection, if there is one. Called before a fork, and by `close`."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def after_fork_in_child(self) -> None:
        """Make the lock anew, and drop a connection of the parent: closing it would undo what the parent writes."""
        self._guard = threading.RLock()
        if self._connection is not None:
            _sqlite.is_torn = True
            _inherited.append(self._connection)
            self._connection = None


def of_id(connection: sqlite3.Connection, volume_id: str) -> Record | None:
    """Return the volume with this id, within a transaction."""
    row = connection.execute("SELECT * FROM volumes WHERE id = ?", (volume_id,)).fetchone()
    return None if row is None else to_record(row)


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return (status.st_dev, status.st_ino)
