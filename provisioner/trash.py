"""Deleting many files without anybody waiting: renamed away at once, deleted in the background."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path


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
            delete_tree(self._directory / name)
            gone += not os.path.lexists(self._directory / name)
        return gone

    def empty_in_background(self) -> None:
        """Delete from a thread that does not keep the process alive: what it leaves, a sweep deletes."""
        threading.Thread(target=self.empty, name="empty-trash", daemon=True).start()


def delete_tree(path: Path) -> None:
    """Delete a file or a directory with all that is in it, read-only directories too; never follows links.

    What cannot be deleted is left behind without an error: a sweep comes by again.
    """

    def allow_and_retry(function: Callable[..., object], name: str, _: object) -> None:
        with contextlib.suppress(OSError):
            for directory in (Path(name).parent, Path(name)):
                if stat.S_ISDIR(directory.lstat().st_mode) and path in (
                    directory,
                    *directory.parents,
                ):
                    directory.chmod(0o700)
            if function in {os.open, os.scandir, os.lstat}:
                shutil.rmtree(name, ignore_errors=True)
            else:
                function(name)

    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(path.lstat().st_mode):
            shutil.rmtree(path, onerror=allow_and_retry)
        else:
            path.unlink()


if __name__ == "__main__":
    Trash(Path(sys.argv[1])).empty()
