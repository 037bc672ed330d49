"""Whether the root can hold volumes, and has space for them."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from provisioner.cli.doctor.finding import Finding, Level
from provisioner.cli.output.terminal import size
from provisioner.core.errors import RootUnusable
from provisioner.hydration.steps.uv.clone import can_reflink
from provisioner.settings.pool import VolumePool
from provisioner.system.reserve import SIZE, Reserve
from provisioner.system.root import (
    file_system,
    holds_only_volumes,
    missing_parent,
    network_file_system,
    prepare,
)

_LITTLE = 1_000_000_000
"""Bytes of free space below which `doctor` warns: less than many environments take."""


def check_root(settings: VolumePool) -> Iterator[Finding]:
    """Yield the findings about the root and its file system; if one is bad, nothing in the root can be checked."""
    root = settings.root_path
    if not root.exists() and not root.is_symlink():
        yield _missing(root)
        return
    try:
        prepare(root, allow_network=settings.allow_network_root)
        yield Finding(Level.OK, "root", f"{root} is private to you and writable")
    except RootUnusable as error:
        # A root of ours that is open to others can be closed; its other faults cannot be repaired.
        status = root.lstat()
        is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
        is_open = is_ours and stat.S_IMODE(status.st_mode) & 0o077 and holds_only_volumes(root)
        repair = partial(root.chmod, 0o700) if is_open else None
        yield Finding(Level.BAD, "root", str(error), repair=repair)
    kind = file_system(root) or "unknown"
    if root.is_dir() and network_file_system(root) is None:
        yield Finding(Level.OK, "file system", kind)
    elif root.is_dir() and settings.allow_network_root:
        message = f"{kind}, a network file system, which VolumePool.allow_network_root accepts"
        yield Finding(Level.WARN, "file system", message, "make sure that only this host uses it")


def check_space(root: Path) -> Iterator[Finding]:
    """Yield the findings about the free space and the reserve."""
    free = shutil.disk_usage(root).free
    if free < _LITTLE:
        level = Level.BAD if free < SIZE else Level.WARN
        cure = "`jupyter volumes list` shows what could be pruned"
        yield Finding(level, "free space", f"only {size(free)}", cure)
    else:
        yield Finding(Level.OK, "free space", size(free))
    if Reserve(root).fill():
        yield Finding(Level.OK, "reserve", f"{size(SIZE)} reserved for the table")
    else:
        message = "too little space to reserve any for the table"
        cure = "free some space: volumes then stay usable on a full disk"
        yield Finding(Level.WARN, "reserve", message, cure)


def check_reflinks(root: Path) -> Iterator[Finding]:
    """Yield how environments are copied on the file system of the root."""
    if can_reflink(root / "staging"):
        how = "cloned by reflinks: copies share blocks until one of them changes"
    elif sys.platform == "darwin" and file_system(root) == "apfs":
        how = "copied; uv installs by reflinks (clones)"
    else:
        how = "cloned by hard links where that is safe, else copied (no reflinks)"
    yield Finding(Level.INFO, "files", f"environments are {how}")


def _missing(root: Path) -> Finding:
    cure = "correct VolumePool.root"
    if (missing := missing_parent(root)) is not None:
        message = f"{root} cannot be made: {missing} does not exist"
        return Finding(Level.BAD, "root", message, f"make that directory, or {cure}")
    above = next(parent for parent in root.parents if os.path.lexists(parent))
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        message = f"{root} cannot be made: {above} is not a directory that you may write to"
        return Finding(Level.BAD, "root", message, cure)
    return Finding(Level.OK, "root", f"{root} does not exist yet; the first kernel makes it")
