"""What Nix would copy into its store with a flake: refused where it is private, reported where it is large.

A flake outside version control is copied whole at each evaluation, readable to every user of the machine.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from provisioner.core.errors import HydrationFailed
from provisioner.hydration.hooks.process import StepHooks
from provisioner.hydration.steps.nix.reference import Reference

_LARGE = 100 << 20  # bytes; copying 293 MB took 1.5 to 3 seconds each time
_CURE = "move the flake into a directory of its own, or `git init` there and add only what belongs to it"


def warn_of_copies(reference: Reference, hooks: StepHooks) -> None:
    """Report it if Nix copies many files along with a flake.

    Raises
    ------
    HydrationFailed
        There is a pipe, a socket or a device (Nix fails at it), or a file that only its owner may read
        (Nix would make it readable to all).
    """
    if reference.copied is not None:
        size = sum(_size(path, path.lstat()) for path in _files(reference.copied))
        if size > _LARGE:
            hooks.report(
                f"Nix copies the {size >> 20} MiB in {reference.copied} with the flake each time: "
                "put the flake into a directory of its own",
            )


def _size(path: Path, status: os.stat_result) -> int:
    """Return the size of a file; refuse one that Nix cannot or should not copy."""
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
    return status.st_size


def _is_private(path: Path, status: os.stat_result) -> bool:
    """Whether the mode asks for privacy. The flake's own files may: under a umask of 077 all files do."""
    own = path.suffix == ".nix" or path.name == "flake.lock"
    return stat.S_ISREG(status.st_mode) and not status.st_mode & 0o077 and not own


def _files(root: Path) -> Iterator[Path]:
    for directory, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name != ".git"]
        yield from (Path(directory, name) for name in names)
