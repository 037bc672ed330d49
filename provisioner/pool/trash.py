"""Deletes many files without a wait: they are renamed away at once and deleted in the background."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from provisioner.pool.fingerprint import has_changed
from provisioner.system.removal import remove

_DOOMED = ".doomed"
"""The end of the names of entries that may be deleted without another look."""


class Trash:
    """The directory of what is being deleted; the next `empty` deletes what a killed process left there.

    A volume that counts as backed up is compared with its fingerprint here, where no caller waits for it. A volume
    that was changed since its backup stays, to be put back.
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

    def empty(
        self,
        cancel: threading.Event | None = None,
        put_back: Callable[[str], object] = lambda name: None,
    ) -> int:
        """Hand the names of the volumes that were changed after their backup to `put_back`; then delete what may go.

        Returns how many entries are gone. Several processes may empty one trash at once.
        """
        for name in self.waiting():
            path = self._directory / name
            if not name.endswith(_DOOMED):
                if has_changed(path):
                    put_back(name)
                    continue
                # Marked first: half deleted, it would look like a changed volume.
                with contextlib.suppress(OSError):  # another process was quicker
                    path.rename(path.with_name(name + _DOOMED))
        gone = 0
        for name in self.waiting():
            if cancel is not None and cancel.is_set():
                break
            if name.endswith(_DOOMED):
                remove(self._directory / name)
                gone += not os.path.lexists(self._directory / name)
        return gone


if __name__ == "__main__":  # started by commands that end before the deletion
    Trash(Path(sys.argv[1])).empty()
