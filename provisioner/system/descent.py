"""Opens the directories of a tree by descriptor, so that no symbolic link is ever followed."""

from __future__ import annotations

import contextlib
import os

OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Opens a directory and follows no link."""


class Descent:
    """Opens directories below a root, name by name.

    Each step opens one name relative to the directory before it. A link that somebody puts in the place of a
    directory meanwhile is therefore not followed out of the tree. Two descriptors are enough for a tree of any depth:
    the way up is `..`, if that is still the directory from which the way led down, and else begins at the root again.
    The caller closes the descriptor of the root.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._here = root
        self._path = b""
        self._above: list[os.stat_result] = []

    def __enter__(self) -> Descent:
        return self

    def __exit__(self, *error: object) -> None:
        self._begin_again()

    def open(self, path: bytes) -> int:
        """Return the descriptor of the directory at a relative path (``b""`` is the root).

        It belongs to this object and is valid until the next call.

        Raises `OSError` if a name on the way does not exist or is not a directory (a link is not one).
        """
        wanted = path + b"/" if path else b""
        while not wanted.startswith(self._path):
            self._climb()
        for name in wanted[len(self._path) :].split(b"/")[:-1]:
            below = os.open(name, OPEN, dir_fd=self._here)
            self._above.append(os.fstat(self._here))
            self._path += name + b"/"
            self._move(below)
        return self._here

    def _climb(self) -> None:
        try:
            parent = os.open(b"..", OPEN, dir_fd=self._here)
        except OSError:  # the directory was deleted, or may not be searched
            self._begin_again()
            return
        self._move(parent)
        self._path = self._path[: self._path.rfind(b"/", 0, -1) + 1]
        if not os.path.samestat(os.fstat(parent), self._above.pop()):
            self._begin_again()

    def _begin_again(self) -> None:
        self._move(self._root)
        self._path, self._above = b"", []

    def _move(self, descriptor: int) -> None:
        left, self._here = self._here, descriptor
        if left != self._root:
            with contextlib.suppress(OSError):
                os.close(left)
