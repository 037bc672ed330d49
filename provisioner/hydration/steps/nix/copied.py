"""What Nix would copy into its store with a flake, and should not.

A flake outside version control is copied whole, at each evaluation, readable to every user of the machine.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from provisioner.core.errors import HydrationFailed

LARGE = 100 << 20
"""Bytes beside a flake from which on the copying is worth a word: 293 MB took 1.5 to 3 seconds each time."""

_CURE = "move the flake into a directory of its own, or `git init` there and add only what belongs to it"


def check_copied(flake: Path) -> int:
    """Refuse what Nix cannot or should not copy, and return the size of the rest in bytes.

    Raises
    ------
    HydrationFailed
        There is a pipe, a socket or a device (Nix fails at it), or a file that only its owner may read
        (Nix would make it readable to all).
    """
    size = 0
    for path, status in _files(flake):
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
            raise HydrationFailed(
                f"{path} is a pipe, a socket or a device, and Nix copies all that lies beside "
                f"a flake: {_CURE}"
            )
        if _is_private(path, status):
            raise HydrationFailed(
                f"{path} is private (mode {stat.S_IMODE(status.st_mode):04o}), and Nix would copy it "
                f"into its store for everybody to read: {_CURE}"
            )
        size += status.st_size
    return size


def _is_private(path: Path, status: os.stat_result) -> bool:
    """Whether the mode asks for privacy; under a umask of 077 the flake's own files do, harmlessly."""
    own = path.suffix == ".nix" or path.name == "flake.lock"
    return stat.S_ISREG(status.st_mode) and not status.st_mode & 0o077 and not own


def _files(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for directory, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name != ".git"]
        for name in names:
            path = Path(directory, name)
            yield path, path.lstat()
