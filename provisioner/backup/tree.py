"""Walks through a directory tree: each directory, its files and its other entries."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
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
    files, children, others
        Names of its regular files, its directories, and all else (links, sockets, …), each sorted.
    """

    path: bytes
    descriptor: int | None
    status: os.stat_result
    files: list[bytes] = field(default_factory=list)
    children: list[bytes] = field(default_factory=list)
    others: list[bytes] = field(default_factory=list)

    @property
    def prefix(self) -> bytes:
        """What the paths of its entries begin with."""
        return self.path + b"/" if self.path else b""


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
                directory = _visit(descent, waiting.pop(), exclusions, tally)
                if directory is not None:
                    yield directory
                    waiting.extend(directory.prefix + name for name in directory.children[::-1])
    finally:
        os.close(root)


def _visit(descent: Descent, path: bytes, exclusions: Exclusions, tally: Tally) -> Directory | None:
    try:
        descriptor = descent.open(path)
        status = os.fstat(descriptor)
    except OSError as error:
        return _closed(descent, path, error, tally)
    try:
        directory = Directory(path, descriptor, status, *_list(descriptor))
    except OSError:
        tally.unreadable.add(path or b".")
        return Directory(path, descriptor, status)
    if path and CACHE_TAG in directory.files and is_cache(descriptor):
        if directory.children or directory.others or len(directory.files) > 1:
            tally.excluded.add(path)
        return Directory(path, descriptor, status, [CACHE_TAG])
    if exclusions:
        for names in (directory.files, directory.others, directory.children):
            is_directory = names is directory.children
            names[:] = _kept(directory.prefix, names, exclusions, tally, is_directory)
    return directory


def _closed(descent: Descent, path: bytes, error: OSError, tally: Tally) -> Directory | None:
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
    return Directory(path, None, status)


def _list(descriptor: int) -> tuple[list[bytes], list[bytes], list[bytes]]:
    files: list[str] = []
    children: list[str] = []
    others: list[str] = []
    with os.scandir(descriptor) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                files.append(entry.name)
            elif entry.is_dir(follow_symlinks=False):
                children.append(entry.name)
            else:
                others.append(entry.name)
    return _encode(files), _encode(children), _encode(others)


def _encode(names: list[str]) -> list[bytes]:
    # In one call: encoding a single name takes as long as reading a small file's metadata.
    return sorted(os.fsencode("/".join(names)).split(b"/")) if names else []


def _kept(
    prefix: bytes, names: list[bytes], exclusions: Exclusions, tally: Tally, is_directory: bool
) -> list[bytes]:
    kept = []
    for name in names:
        if exclusions.match(os.fsdecode(prefix + name), directory=is_directory):
            tally.excluded.add(prefix + name)
        else:
            kept.append(name)
    return kept
