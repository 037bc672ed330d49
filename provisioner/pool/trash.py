"""Deletes many files without a wait: they are renamed away at once and deleted in the background."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import threading
from pathlib import Path

from provisioner.pool.fingerprint import has_changed
from provisioner.system.removal import remove

_DOOMED = ".doomed"
"""The end of the names of entries that may be deleted without another look."""


class Trash:
    """The directory of what is being deleted; the next `empty` deletes what a killed process left there.

    A volume that counts as backed up is compared with its fingerprint here, where no caller waits for it. A volume
    that was changed since its backup stays for `put_back`.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def take(self, path: Path, *, look: bool = False) -> None:
        """Rename `path` into the trash, which makes it disappear at once; nothing happens if it does not exist.

        With `look`, it is a volume to be compared with its fingerprint before it is deleted.
        """
        name = f"{path.name}.{secrets.token_hex(4)}{'' if look else _DOOMED}"
        with contextlib.suppress(FileNotFoundError):
            path.rename(self._directory / name)

    def waiting(self) -> list[str]:
        """Return the names of the entries; the part before the first dot is the name that the entry had."""
        return sorted(os.listdir(self._directory))

    def changed(self) -> list[str]:
        """Return the names of the volumes that were changed after their backup; they are not to be deleted."""
        return [name for name in self.waiting() if self._is_changed(name)]

    def put_back(self, name: str, path: Path) -> bool:
        """Rename an entry to `path`, which does not exist; False if the entry is gone or is being deleted."""
        try:
            (self._directory / name).rename(path)
        except FileNotFoundError:
            return False
        return True

    def empty(self, cancel: threading.Event | None = None) -> int:
        """Delete the entries that may go; return how many are gone. Several processes may empty one trash at once."""
        gone = 0
        for name in self.waiting():
            if cancel is not None and cancel.is_set():
                break
            doomed = self._doom(name)
            if doomed is not None:
                remove(doomed)
                gone += not os.path.lexists(doomed)
        return gone

    def _doom(self, name: str) -> Path | None:
        """Mark an entry as one that may go: half deleted, it would look like a changed volume."""
        path = self._directory / name
        if name.endswith(_DOOMED):
            return path
        if self._is_changed(name):
            return None
        doomed = path.with_name(name + _DOOMED)
        with contextlib.suppress(OSError):  # another process was quicker
            path.rename(doomed)
            return doomed
        return None

    def _is_changed(self, name: str) -> bool:
        return not name.endswith(_DOOMED) and has_changed(self._directory / name)


if __name__ == "__main__":  # started by commands that end before the deletion
    Trash(Path(sys.argv[1])).empty()
