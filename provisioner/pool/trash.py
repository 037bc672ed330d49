"""Deleting many files without anybody waiting: renamed away at once, deleted in the background."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import threading
from pathlib import Path

from provisioner.pool.seal import is_broken
from provisioner.system.removal import remove

_DOOMED = ".doomed"
"""End of the name of what was found to be deletable; nothing looks at it any more."""


class Trash:
    """The directory of what is being deleted; what a killed process left there, the next `empty` deletes.

    Of a volume that counts as backed up it is looked at here, when nobody waits any more, whether its seal is whole.
    What was changed since is kept for whoever can put it back.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def take(self, path: Path, *, look: bool = False) -> bool:
        """Rename `path` into the trash, which makes it disappear at once; False if it does not exist.

        Parameters
        ----------
        path
            A file or directory on the trash's file system.
        look
            Whether it is a volume to be looked at before it is deleted.
        """
        try:
            path.rename(
                self._directory / f"{path.name}.{secrets.token_hex(4)}{'' if look else _DOOMED}"
            )
        except FileNotFoundError:
            return False
        return True

    def waiting(self) -> list[str]:
        """Return the names of what lies in the trash; before the first dot stands the name it had."""
        return sorted(os.listdir(self._directory))

    def changed(self) -> list[str]:
        """Return the names of the volumes that were changed after their backup; they are not to be deleted."""
        return [name for name in self.waiting() if self._is_changed(name)]

    def put_back(self, name: str, path: Path) -> bool:
        """Rename an entry to `path`, where nothing is; False if it is gone, or being deleted after all."""
        try:
            (self._directory / name).rename(path)
        except FileNotFoundError:
            return False
        return True

    def empty(self, cancel: threading.Event | None = None) -> int:
        """Delete what lies here and may go; return how many entries are gone. Several may empty one trash at once."""
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
        """Mark an entry as one that may go: half deleted, it would look like one that was changed."""
        path = self._directory / name
        if name.endswith(_DOOMED):
            return path
        if self._is_changed(name):
            return None
        doomed = path.with_name(name + _DOOMED)
        with contextlib.suppress(OSError):  # another one was quicker
            path.rename(doomed)
            return doomed
        return None

    def _is_changed(self, name: str) -> bool:
        return not name.endswith(_DOOMED) and is_broken(self._directory / name)


if __name__ == "__main__":  # started by whoever must not wait for the deleting
    Trash(Path(sys.argv[1])).empty()
