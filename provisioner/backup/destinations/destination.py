"""Where backups lie: the few things that every such place can do."""

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
    """A backup in a destination.

    Parameters
    ----------
    name
        What its file name says.
    size
        Length in bytes.
    """

    name: BackupName
    size: int


class Destination(Protocol):
    """A place for backups.

    All methods block, and raise :class:`VolumeError` subclasses whose messages name the place.
    """

    def __str__(self) -> str:
        """Name the place for people, without secrets."""

    def backups(self) -> list[Stored]:
        """List all finished backups, in the order of their names; other files are passed over."""

    def put(
        self,
        name: BackupName,
        write: Callable[[BinaryIO], T],
        check: Callable[[BinaryIO, T], object],
        *,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> T:
        """Store one backup.

        ``write`` fills a file under a partial name; once that is safe, ``check`` reads it back; only
        then does it get its final name, at once. If anything fails, nothing is left.

        Returns
        -------
        What ``write`` returned.

        Raises
        ------
        BackupFailed
            If a backup of that name exists or the place cannot be written.
        DiskFull
            If the place is full.
        """

    def open(self, name: BackupName) -> AbstractContextManager[BinaryIO]:
        """Open a backup for reading, seekable.

        Raises
        ------
        BackupMissing
            If there is none of that name.
        """

    def delete(self, name: BackupName) -> None:
        """Delete a backup; nothing happens if there is none of that name."""

    def free_bytes(self) -> int | None:
        """Tell how many bytes may still be written; None where nobody can say."""

    def sweep_partials(self, now: datetime) -> list[str]:
        """Delete what killed writers left, never what a live one still writes; return the names."""
