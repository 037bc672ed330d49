"""Deleting many files without anybody waiting: renamed away at once, deleted in the background."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import sys
import threading
from pathlib import Path

from .backup import remove_tree


class Trash:
    """The directory of what is being deleted; what a killed process left there, the next `empty` deletes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def take(self, path: Path) -> bool:
        """Rename `path` into the trash, which makes it disappear at once; False if it does not exist."""
        try:
            path.rename(self._directory / f"{path.name}.{secrets.token_hex(4)}")
        except FileNotFoundError:
            return False
        return True

    def waiting(self) -> list[str]:
        """Return the names of what lies in the trash; before the last dot stands the name it had."""
        return sorted(os.listdir(self._directory))

    def empty(self, cancel: threading.Event | None = None) -> int:
        """Delete what lies here; return how many entries are gone. Several may empty one trash at once."""
        gone = 0
        for name in self.waiting():
            if cancel is not None and cancel.is_set():
                break
            _delete(self._directory / name)
            gone += not os.path.lexists(self._directory / name)
        return gone

    def empty_in_background(self) -> None:
        """Delete from a thread that does not keep the process alive: what it leaves, a sweep deletes."""
        threading.Thread(target=self.empty, name="empty-trash", daemon=True).start()


def _delete(path: Path) -> None:
    """Delete a file or a directory with all that is in it.

    What cannot be deleted now, or is being deleted by another process, is left: a sweep comes by again.
    """
    with contextlib.suppress(OSError):
        if stat.S_ISDIR(path.lstat().st_mode):
            remove_tree(path)
        else:
            path.unlink()


if __name__ == "__main__":  # started by whoever must not wait for the deleting
    Trash(Path(sys.argv[1])).empty()
