"""Opens the directories of a tree by descriptor, so that no symbolic link is ever followed."""

from __future__ import annotations

import contextlib
import os
from types import TracebackType

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

KEPT = 64
"""Levels whose descriptors stay open. Deeper ones are opened anew, so that no tree uses all descriptors up."""


class Descent:
    """Opens directories below a root, name by name.

    Each step opens one name relative to the descriptor before it. A link that somebody puts in the place of a
    directory meanwhile is therefore not followed out of the tree.

    Parameters
    ----------
    root
        The descriptor of the top directory; the caller closes it.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._names: list[bytes] = []
        self._descriptors: list[int] = []
        self._deep: int | None = None

    def __enter__(self) -> Descent:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave_deep()
        self._keep(0)

    def open(self, path: bytes) -> int:
        """Return the descriptor of the directory at a relative path (``b""`` is the root).

        It belongs to this object and is valid until the next call.

        Raises
        ------
        OSError
            If a name on the way does not exist or is not a directory (a link is not one).
        """
        names = path.split(b"/") if path else []
        self._leave_deep()
        common = 0
        for ours, theirs in zip(self._names, names, strict=False):
            if ours != theirs:
                break
            common += 1
        self._keep(common)
        for name in names[common:KEPT]:
            self._descriptors.append(os.open(name, _OPEN, dir_fd=self._last()))
            self._names.append(name)
        for name in names[KEPT:]:
            parent = self._last() if self._deep is None else self._deep
            below = os.open(name, _OPEN, dir_fd=parent)
            self._leave_deep()
            self._deep = below
        return self._last() if self._deep is None else self._deep

    def _last(self) -> int:
        return self._descriptors[-1] if self._descriptors else self._root

    def _keep(self, levels: int) -> None:
        while len(self._descriptors) > levels:
            self._names.pop()
            os.close(self._descriptors.pop())

    def _leave_deep(self) -> None:
        if self._deep is not None:
            deep, self._deep = self._deep, None
            with contextlib.suppress(OSError):
                os.close(deep)
