"""The schema of the table, and the conversion between its rows and records."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timezone
from enum import Enum
from typing import Any, TypeVar

from provisioner.core.record import BackupRecord, Record, Spare, State

T = TypeVar("T", Record, BackupRecord)

_VERSION_1 = """
CREATE TABLE volumes (
    id          TEXT PRIMARY KEY,
    session     TEXT NOT NULL UNIQUE,
    kernelspec  TEXT NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('active', 'stopped', 'pruned')),
    generation  INTEGER NOT NULL,
    backed_up   INTEGER NOT NULL DEFAULT -1,   -- the newest generation that has a verified, whole backup
    created     REAL NOT NULL,
    acquired    REAL,
    stopped     REAL,
    pinned      INTEGER NOT NULL DEFAULT 0,
    bytes       INTEGER,
    note        TEXT NOT NULL DEFAULT '',
    retry       REAL,                          -- when a backup that failed is tried again
    failures    INTEGER NOT NULL DEFAULT 0,    -- how many in a row
    spare       TEXT                           -- of a volume nobody has claimed: is it 'making' or 'ready'?
) WITHOUT ROWID;
CREATE INDEX volumes_active ON volumes (id) WHERE state = 'active';
CREATE INDEX volumes_to_back_up ON volumes (stopped)
    WHERE state = 'stopped' AND backed_up < generation;
CREATE INDEX volumes_to_prune ON volumes (stopped)
    WHERE state = 'stopped' AND pinned = 0 AND backed_up = generation;
CREATE INDEX volumes_unborn ON volumes (id) WHERE generation = 0 AND state = 'stopped';
CREATE INDEX volumes_spare ON volumes (kernelspec, spare) WHERE spare IS NOT NULL;
-- What volumes with files on disk take, kept up to date: counting them anew took 20 ms for 100,000.
CREATE TABLE totals (places INTEGER NOT NULL, bytes INTEGER NOT NULL);
INSERT INTO totals VALUES (0, 0);
CREATE TRIGGER volume_enters AFTER INSERT ON volumes WHEN new.state != 'pruned' BEGIN
    UPDATE totals SET places = places + 1, bytes = bytes + ifnull(new.bytes, 0); END;
CREATE TRIGGER volume_goes AFTER DELETE ON volumes WHEN old.state != 'pruned' BEGIN
    UPDATE totals SET places = places - 1, bytes = bytes - ifnull(old.bytes, 0); END;
CREATE TRIGGER volume_changes AFTER UPDATE OF state, bytes ON volumes BEGIN
    UPDATE totals SET places = places + (new.state != 'pruned') - (old.state != 'pruned'), bytes = bytes
    + (new.state != 'pruned') * ifnull(new.bytes, 0) - (old.state != 'pruned') * ifnull(old.bytes, 0); END;
CREATE TABLE former_names (
    session     TEXT PRIMARY KEY,
    id          TEXT NOT NULL REFERENCES volumes (id) ON DELETE CASCADE,
    since       REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE backups (
    name        TEXT NOT NULL,
    destination TEXT NOT NULL,
    id          TEXT NOT NULL,
    generation  INTEGER NOT NULL,
    created     REAL NOT NULL,
    size        INTEGER NOT NULL,
    files       INTEGER NOT NULL,
    bytes       INTEGER NOT NULL,
    partial     INTEGER NOT NULL,
    verified    REAL,
    PRIMARY KEY (name, destination)
) WITHOUT ROWID;
CREATE INDEX backups_of_volume ON backups (id, created);
CREATE INDEX backups_by_age ON backups (created);
"""

MIGRATIONS: Sequence[str] = (_VERSION_1,)
"""The script from each schema version to the next; `PRAGMA user_version` counts the scripts applied."""

_NONSENSE = (ValueError, TypeError, OverflowError, OSError)
"""What values raise that this module has not written: their page is damaged."""


def to_row(record: Record | BackupRecord) -> dict[str, object]:
    """Return a record as a row, by column."""
    return {field.name: stored(getattr(record, field.name)) for field in fields(record)}


def stored(value: object) -> object:
    """Return a value of a record as a row stores it: a time in seconds since 1970, UTC."""
    if isinstance(value, Enum):
        return value.value
    return value.timestamp() if isinstance(value, datetime) else value


def _moment(number: float) -> datetime:
    return datetime.fromtimestamp(number, timezone.utc)


def _or_none(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


_READ: Mapping[str, Callable[[Any], Any]] = {
    "state": State,
    "spare": _or_none(Spare),
    "bytes": _or_none(int),
    "created": _moment,
    **dict.fromkeys(("acquired", "stopped", "retry", "verified"), _or_none(_moment)),
    **dict.fromkeys(("pinned", "partial"), bool),
    **dict.fromkeys(("generation", "backed_up", "failures", "size", "files"), int),
}
"""What makes the value of a record from that of a column, where they differ."""


def _reader(kind: type[T]) -> Callable[[sqlite3.Row], T]:
    columns = [(field.name, _READ.get(field.name)) for field in fields(kind)]

    def read_row(row: sqlite3.Row) -> T:
        try:
            return kind(*[row[name] if read is None else read(row[name]) for name, read in columns])
        except _NONSENSE as error:
            raise sqlite3.DatabaseError(f"malformed record: {error}") from error

    return read_row


to_record = _reader(Record)
"""Returns a row of `volumes` as a record (`sqlite3.DatabaseError` if it is nonsense)."""

to_backup = _reader(BackupRecord)
"""Returns a row of `backups` as a record (`sqlite3.DatabaseError` if it is nonsense)."""
