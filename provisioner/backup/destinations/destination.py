"""The interface of a backup destination."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol, TypeVar

from provisioner.backup.format.name import BackupName

PARTIAL = ".partial-"
"""Start of the name of a file that is still being written."""

T = TypeVar("T")


@dataclass(frozen=True, order=True)
class Stored:
    """A backup at a destination, and its length in bytes."""

    name: BackupName
    size: int


class Destination(Protocol):
    """Stores backups.

    All methods block, and raise subclasses of :class:`VolumeError` whose messages name the destination.
    """

    def __str__(self) -> str:
        """Return the destination's name for messages, without secrets."""

    def backups(self) -> list[Stored]:
        """Return all complete backups, in the order of their names; other files are ignored."""

    def put(
        self,
        name: BackupName,
        write: Callable[[BinaryIO], T],
        check: Callable[[BinaryIO], object],
        *,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> T:
        """Store one backup; return what ``write`` returned.

        ``write`` fills a file with a partial name. When the file is on disk, ``check`` reads it back. Only then the
        file gets its final name, atomically. After a failure nothing is left.

        Raises
        ------
        BackupFailed
            If a backup of that name exists or the destination cannot be written.
        DiskFull
            If the destination is full.
        """

    def open(self, name: BackupName) -> AbstractContextManager[BinaryIO]:
        """Open a backup for reading, seekable.

        Raises
        ------
        BackupMissing
            If no backup has that name.
        """

    def delete(self, name: BackupName) -> None:
        """Delete a backup; do nothing if no backup has that name."""

    def free_bytes(self) -> int | None:
        """Return how many bytes may still be written; None if that is not known."""

    def sweep_partials(self, now: datetime) -> list[str]:
        """Delete the partial files of killed writers, never those of live ones; return their names."""
