"""What an overlay is made of: links and small files that are compared with what they should be."""

from __future__ import annotations

import os
import stat
import threading
from dataclasses import dataclass
from pathlib import Path

from provisioner.system.files import replace_file, replacing

PROGRAM = 0o755
"""The mode of a file that can be run."""

writing = threading.Lock()
"""Held by whoever writes into a volume: kernels of one server may share it, its lease keeps others away."""


@dataclass(frozen=True)
class Link:
    """A symbolic link.

    Parameters
    ----------
    path
        Where it is, from the environment's root.
    target
        Where it points, as it is written in the link.
    """

    path: str
    target: str

    def fits(self, root: Path) -> bool:
        """Whether it is there and points where it should."""
        try:
            return os.readlink(root / self.path) == self.target
        except OSError:
            return False

    def write(self, root: Path) -> None:
        """Put it there; atomic."""
        with replacing(root / self.path) as aside:
            aside.symlink_to(self.target)


@dataclass(frozen=True)
class File:
    """A small file.

    Parameters
    ----------
    path
        Where it is, from the environment's root.
    content
        All of it.
    mode
        Its permissions.
    """

    path: str
    content: bytes
    mode: int = 0o644

    def fits(self, root: Path) -> bool:
        """Whether it is there, whole, and runs if it is a program."""
        path = root / self.path
        try:
            # The size first: what took its place may be a pipe, or huge.
            status = path.lstat()
            return (
                status.st_size == len(self.content)
                and not self.mode & ~status.st_mode & (stat.S_IRUSR | stat.S_IXUSR)
                and path.read_bytes() == self.content
            )
        except OSError:
            return False

    def write(self, root: Path) -> None:
        """Put it there; atomic, but not on disk when this returns: a torn one is seen and written again."""
        replace_file(root / self.path, self.content, self.mode)


Piece = Link | File
