"""One SQLite file that many processes share: opens it, migrates it, waits for it, and follows it when it is replaced.

WAL mode with `synchronous=FULL`: what a call has written survives a power failure. This module waits for another writer
with short, jittered pauses; SQLite's own busy handler was measured to starve single writers for seconds.
Forks are described in `sqlite_forks`.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from provisioner.core.errors import RegistryUnusable
from provisioner.registry import sqlite_forks

T = TypeVar("T")

Recover = Callable[[bool], None]
"""Rebuilds a lost file; called with True, it reads every page of an existing one first, which may be damaged."""

PATIENCE = timedelta(seconds=10)
"""How long a call waits for a file that another process keeps locked."""


class Database:
    """One file; an instance serves all threads of a process, and its forks.

    Parameters
    ----------
    path
        The file.
    migrations
        The script that leads from each schema version to the next; `PRAGMA user_version` counts those applied.
    recover
        Called when the file is missing, was replaced, or is found damaged. Without it, that is an error.
    patience
        How long to wait for another process.
    create
        Whether to make the file if it does not exist. Never where another process may open it: it would be empty.
    relieve
        Called when the disk is full, until there is room; makes some room, and returns whether it could.

    Raises
    ------
    RegistryUnusable
        If the file cannot be opened, is damaged, or was written by a newer version.
    """

    def __init__(
        self,
        path: Path,
        migrations: Sequence[str],
        recover: Recover | None = None,
        patience: timedelta = PATIENCE,
        create: bool = False,
        relieve: Callable[[], bool] | None = None,
    ) -> None:
        self.path = path
        self._migrations = migrations
        self._recover = recover
        self._patience = patience
        self._relieve = relieve
        self._mode = "rwc" if create else "rw"
        self._guard = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        sqlite_forks.register(self)
        self._patiently(lambda connection: None)

    def close(self) -> None:
        """Close the file; the next call opens it again. Calling it twice is harmless."""
        with self._guard, sqlite_forks.in_sqlite():
            self.disconnect()

    def read(
        self, query: str, values: Sequence[object], make: Callable[[sqlite3.Row], T]
    ) -> list[T]:
        """Return what `make` makes of each row that a query gives.

        Raises
        ------
        RegistryUnusable
            Saying why and what to do.
        """
        try:
            return self._patiently(
                lambda connection: [make(row) for row in connection.execute(query, values)]
            )
        except UnicodeEncodeError:
            # The query has half a character (a lone surrogate), which no row can hold.
            return []

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in one transaction, again from the start while another process is writing.

        Raises
        ------
        RegistryUnusable
            Saying why and what to do; nothing was written.
        """

        def transaction(connection: sqlite3.Connection) -> tuple[T, bool]:
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
            return result, self._is_current()

        result, is_current = self._patiently(transaction)
        if not is_current:
            # Another process had just set this file aside as damaged: write again, to the new file.
            result, _ = self._patiently(transaction)
        return result

    # -- waiting and following -------------------------------------------------------------------------------

    def _patiently(self, work: Callable[[sqlite3.Connection], T]) -> T:
        deadline = time.monotonic() + self._patience.total_seconds()
        pause = 0.001
        recovered = False
        with self._guard:
            while True:
                try:
                    self._follow()
                    with self._at_work() as connection:
                        return work(connection)
                except sqlite3.DatabaseError as error:
                    # Everything slow happens here, where no fork waits for it.
                    if is_busy(error) and time.monotonic() < deadline:
                        time.sleep(pause * random.uniform(0.5, 1.5))
                        pause = min(pause * 1.5, 0.05)
                    elif self._recover is not None and not recovered and _is_damage(error):
                        recovered = True
                        self.close()
                        self._recover(True)
                    elif not self._makes_room(error):
                        raise self._unusable(error) from error

    def _makes_room(self, error: sqlite3.Error) -> bool:
        return self._relieve is not None and self._is_full(error) and self._relieve()

    def _follow(self) -> None:
        """Close a file that was replaced or lost, and rebuild a lost one."""
        self._require_whole()
        if not self._is_current():
            self.close()
            if self._recover is not None:
                self._recover(False)

    def _is_current(self) -> bool:
        return self._connection is not None and self._identity == _identity(self.path)

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection, opened if need be; forks wait until the block ends."""
        with sqlite_forks.in_sqlite():
            self._require_whole()
            if self._connection is None:
                self._connection = self._open()
            yield self._connection

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
        if self._version(connection) == len(self._migrations):
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            for version in range(self._version(connection), len(self._migrations)):
                for statement in self._migrations[version].split(";\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {version + 1}")
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    def _version(self, connection: sqlite3.Connection) -> int:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version < 0:
            raise sqlite3.DatabaseError(f"malformed schema version {version}")
        if version > len(self._migrations):
            raise RegistryUnusable(
                f"{self.path} was written by a newer version of jupyter-volumes (schema {version}; this one "
                f"knows {len(self._migrations)}); upgrade with `pip install -U jupyter-volumes`."
            )
        return version

    # -- forks -----------------------------------------------------------------------------------------------

    @property
    def is_connected(self) -> bool:
        """Whether this process has a connection."""
        return self._connection is not None

    def disconnect(self) -> None:
        """Close the connection, if there is one. Called before a fork, and by `close`."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def after_fork_in_child(self) -> None:
        """Make the lock anew, and drop a connection of the parent: closing it would undo what the parent writes."""
        self._guard = threading.RLock()
        if self._connection is not None:
            _inherited.append(self._connection)
            self._connection = None

    def _require_whole(self) -> None:
        if sqlite_forks.is_torn():
            raise RegistryUnusable(
                f"{self.path} cannot be used by this process, which was forked in the midst of a write by another "
                "thread; start a new one instead (`subprocess`, or `multiprocessing` with the start method 'spawn')."
            )

    # -- error messages --------------------------------------------------------------------------------------

    def _is_full(self, error: sqlite3.Error) -> bool:
        return "full" in str(error) or _is_on_full_disk(self.path)

    def _unusable(self, error: sqlite3.Error) -> RegistryUnusable:
        return RegistryUnusable(f"{self.path} {self._diagnosis(error)}")

    def _diagnosis(self, error: sqlite3.Error) -> str:
        said = str(error)
        if is_busy(error):
            return (
                f"has been locked by another process for {self._patience.total_seconds():.0f} s; find it with "
                "`fuser` on that file and end it, or try again."
            )
        if "readonly" in said or "read-only" in said or _is_unwritable(self.path):
            return "cannot be written (read-only); make it and its directory writable for you."
        if _is_damage(error):
            return f"is damaged ({said}); `jupyter volumes doctor --repair` rebuilds it from the volumes on disk."
        if self._is_full(error):
            return "cannot grow (disk full); free some space and try again."
        if "unable to open" in said:
            return (
                "cannot be opened; check that it exists, and that it and its directory are yours."
            )
        return f"failed ({said}); run `jupyter volumes doctor`."


def is_damage(error: BaseException) -> bool:
    """Whether a `RegistryUnusable` means that the file is damaged and may be rebuilt from what lies on disk."""
    return error.__cause__ is not None and _is_damage(error.__cause__)


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another process keeps the file locked."""
    return isinstance(error, sqlite3.OperationalError) and (
        "locked" in str(error) or "busy" in str(error)
    )


_DAMAGE = (
    "malformed",
    "not a database",
    "corrupt",
    "no such table",
    "no such column",
    "already exists",  # the schema is there, the version that says so is not
    "unsupported file format",
    "decode to UTF-8",
)


def _is_damage(error: BaseException) -> bool:
    return isinstance(error, sqlite3.DatabaseError) and any(word in str(error) for word in _DAMAGE)


def _is_unwritable(path: Path) -> bool:
    """Whether SQLite cannot make its files beside the database: then it says "unable to open" of an existing file."""
    return path.exists() and not os.access(path.parent, os.W_OK)


def _is_on_full_disk(path: Path) -> bool:
    """Whether the disk is full: SQLite then says "disk I/O error" or "unable to open", since its files need room."""
    try:
        status = os.statvfs(path.parent)
    except OSError:
        return False
    return status.f_bavail * status.f_frsize < 64 * 1024


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return (status.st_dev, status.st_ino)


_inherited: list[sqlite3.Connection] = []
"""The parent's connections in a forked child, kept so that nothing closes them."""
