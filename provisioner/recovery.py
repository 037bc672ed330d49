"""Rebuild a lost or damaged table from what lies on disk. No file of a volume is touched."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from . import lease, registry, volume
from .errors import RegistryUnusable
from .event import log
from .record import Record, State
from .registry import Registry
from .volume import Layout


def open_registry(
    layout: Layout, clock: Callable[[], datetime], find_more: Callable[[Registry], None]
) -> Registry:
    """Open the table of a root; rebuild it first if it is missing though there are volumes, or is damaged.

    A damaged table is kept beside the new one, as `registry.sqlite3.damaged-<time>`.

    Parameters
    ----------
    layout
        Where things lie.
    clock
        Tells the time.
    find_more
        Enters what lies elsewhere than under the root: the backups.

    Raises
    ------
    RegistryUnusable
        If the table is locked, read-only or of a newer version: nothing that rebuilding would cure.
    """
    path = layout.root / registry.FILE_NAME

    def ensure() -> None:
        ensure_registry(layout, clock(), find_more)

    ensure()
    return Registry(path, recover=ensure)


def ensure_registry(layout: Layout, now: datetime, find_more: Callable[[Registry], None]) -> None:
    """Rebuild the table if it is missing or damaged; do nothing if it is well. One process at a time rebuilds."""
    path = layout.root / registry.FILE_NAME
    if _is_well(path):
        return
    with _alone(layout):
        # Another process may have been here first.
        if not _is_well(path):
            _set_aside(path, now)
            _rebuild(layout, path, now, find_more)


def _is_well(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        opened = Registry(path)
        try:
            opened.check()
        finally:
            opened.close()
    except RegistryUnusable as error:
        if not registry.is_damage(error):
            raise
        log.warning("%s", error)
        return False
    return True


def _rebuild(
    layout: Layout, path: Path, now: datetime, find_more: Callable[[Registry], None]
) -> None:
    # Whoever left such a file was killed: only one process at a time comes here.
    for left in layout.staging.glob("registry.*"):
        left.unlink()
    aside = layout.staging / f"registry.{os.getpid()}"
    fresh = Registry(aside)
    found = 0
    for directory in sorted(layout.volumes.iterdir()):
        if directory.is_dir() and not directory.is_symlink():
            fresh.adopt(found_record(layout, directory, now))
            found += 1
    find_more(fresh)
    # Closing the last connection folds the write-ahead log into the file, which then can be moved alone.
    fresh.close()
    aside.replace(path)
    if found:
        log.warning("Rebuilt %s from %d volumes on disk.", path, found)


def found_record(layout: Layout, directory: Path, now: datetime) -> Record:
    """Return the record of a directory that the table does not know."""
    own = volume.read_record(directory)
    held = lease.is_held(layout.lease(directory.name))
    state = State.ACTIVE if held else State.STOPPED
    if own is None or own.id != directory.name:
        return Record(
            directory.name,
            f"recovered:{directory.name}",
            "",
            state,
            1,
            now,
            stopped=None if held else now,
            note="its record was lost",
        )
    return Record(
        own.id,
        own.session,
        own.kernelspec,
        state,
        own.generation,
        own.created,
        stopped=None if held else now,
        pinned=own.pinned,
    )


def _set_aside(path: Path, now: datetime) -> None:
    stamp = f"{now:%Y%m%dT%H%M%SZ}.{os.getpid()}"
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        with contextlib.suppress(FileNotFoundError):
            part.replace(path.with_name(f"{path.name}.damaged-{stamp}{suffix}"))


@contextlib.contextmanager
def _alone(layout: Layout) -> Iterator[None]:
    """Let one process at a time rebuild."""
    fd = os.open(layout.root / "rebuild.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
