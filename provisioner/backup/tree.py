"""Walks through a directory tree: each directory, its files and its other entries."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from provisioner.backup.format.exclusion import CACHE_TAG, Exclusions, is_cache
from provisioner.backup.format.manifest import Tally
from provisioner.core.errors import BackupFailed
from provisioner.system.descent import Descent

GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE}
"""The errors of opening a file that has gone or was replaced by something else."""


@dataclass(frozen=True)
class Directory:
    """One directory of the tree, open.

    Parameters
    ----------
    path
        Relative to the top; ``b""`` for the top itself.
    descriptor
        Valid until the walk goes on; None if the directory may not be listed.
    status
        Its metadata.
    files
        Names of its regular files, sorted.
    others
        Names of all other entries but directories (links, sockets, …), sorted.
    """

    path: bytes
    descriptor: int | None
    status: os.stat_result
    files: list[bytes]
    others: list[bytes]


def walk(top: Path, exclusions: Exclusions, tally: Tally) -> Iterator[Directory]:
    """Visit every directory, a parent before its children, in a fixed order.

    Excluded, unreadable and vanished entries are counted in the tally. A ``CACHEDIR.TAG`` in the top
    directory itself is ignored: a volume is not a cache, and its backup must not be empty.

    Raises
    ------
    BackupFailed
        If the top directory cannot be opened.
    """
    try:
        root = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise BackupFailed(
            f"cannot read {top}: {error.strerror}; check that it exists and its permissions"
        ) from error
    try:
        with Descent(root) as descent:
            waiting = [b""]
            while waiting:
                path = waiting.pop()
                visited = _visit(descent, path, exclusions, tally)
                if visited is None:
                    continue
                directory, children = visited
                yield directory
                prefix = path + b"/" if path else b""
                waiting.extend(prefix + child for child in reversed(children))
    finally:
        os.close(root)


def _visit(
    descent: Descent, path: bytes, exclusions: Exclusions, tally: Tally
) -> tuple[Directory, list[bytes]] | None:
    try:
        descriptor = descent.open(path)
        status = os.fstat(descriptor)
    except OSError as error:
        return _closed(descent, path, error, tally)
    try:
        files, others, children = _list(descriptor)
    except OSError:
        tally.unreadable.add(path or b".")
        return Directory(path, descriptor, status, [], []), []
    if CACHE_TAG in files and path and is_cache(descriptor):
        if len(files) + len(others) + len(children) > 1:
            tally.excluded.add(path)
        files, others, children = [CACHE_TAG], [], []
    if exclusions:
        files = _kept(path, files, exclusions, tally, directory=False)
        others = _kept(path, others, exclusions, tally, directory=False)
        children = _kept(path, children, exclusions, tally, directory=True)
    return Directory(path, descriptor, status, files, others), children


def _closed(
    descent: Descent, path: bytes, error: OSError, tally: Tally
) -> tuple[Directory, list[bytes]] | None:
    """Count a directory that cannot be opened; return it with its metadata if these can be read."""
    if error.errno in GONE:
        tally.vanished.add(path)
        return None
    tally.unreadable.add(path)
    parent, _, name = path.rpartition(b"/")
    try:
        status = os.stat(name, dir_fd=descent.open(parent), follow_symlinks=False)
    except OSError:
        return None
    return Directory(path, None, status, [], []), []


def _list(descriptor: int) -> tuple[list[bytes], list[bytes], list[bytes]]:
    files: list[str] = []
    others: list[str] = []
    children: list[str] = []
    with os.scandir(descriptor) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                files.append(entry.name)
            elif entry.is_dir(follow_symlinks=False):
                children.append(entry.name)
            else:
                others.append(entry.name)
    return _encode(files), _encode(others), _encode(children)


def _encode(names: list[str]) -> list[bytes]:
    # In one call: encoding a single name takes as long as reading a small file's metadata.
    return sorted(os.fsencode("/".join(names)).split(b"/")) if names else []


def _kept(
    parent: bytes, names: list[bytes], exclusions: Exclusions, tally: Tally, *, directory: bool
) -> list[bytes]:
    prefix = parent + b"/" if parent else b""
    kept = []
    for name in names:
        path = prefix + name
        if exclusions.match(os.fsdecode(path), directory=directory):
            tally.excluded.add(path)
        else:
            kept.append(name)
    return kept
