"""Rebuild a lost or damaged table from what lies on disk. No file of a volume is touched."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from provisioner.core.errors import RegistryUnusable
from provisioner.core.record import Record, State
from provisioner.registry.database import is_damage
from provisioner.registry.registry import FILE_NAME, Registry
from provisioner.settings.log import log
from provisioner.system import lease, locks, volume_record
from provisioner.system.layout import Layout

_REBUILD_SECONDS = 300.0
"""How long to wait for another process that rebuilds the table; reading 10,000 backups takes a minute."""


def open_registry(
    layout: Layout,
    clock: Callable[[], datetime],
    find_more: Callable[[Registry], None],
    relieve: Callable[[], bool],
) -> Registry:
    """Open the table of a root; rebuild it first if it is missing though there are volumes, or is damaged.

    A damaged table is kept beside the new one, as `registry.sqlite3.damaged-<time>`.

    Parameters
    ----------
    layout
        Where things lie.
    clock
        Returns the time (UTC).
    find_more
        Enters what lies elsewhere than under the root: the backups.
    relieve
        Makes room on a full disk; returns whether it could.

    Raises
    ------
    RegistryUnusable
        If the table is locked, read-only or of a newer version: nothing that rebuilding would cure.
    """
    path = layout.root / FILE_NAME

    def ensure(thorough: bool) -> None:
        ensure_registry(layout, clock(), find_more, relieve, thorough=thorough)

    return Registry(path, recover=ensure, relieve=relieve)


def ensure_registry(
    layout: Layout,
    now: datetime,
    find_more: Callable[[Registry], None],
    relieve: Callable[[], bool] | None = None,
    *,
    thorough: bool = False,
) -> None:
    """Rebuild the table if it is missing or damaged; do nothing if it is whole. One process at a time rebuilds.

    Parameters
    ----------
    layout, find_more, relieve
        As for `open_registry`.
    now
        The time.
    thorough
        Whether to read every page.

    Raises
    ------
    RegistryUnusable
        As `open_registry`.
    """
    path = layout.root / FILE_NAME
    if _is_whole(path, relieve, thorough):
        return
    with _rebuilding(layout.root / "rebuild.lock"):
        # Another process may have been here first.
        if not _is_whole(path, relieve, thorough):
            _set_aside(path, now)
            _rebuild(layout, path, now, find_more, relieve)


def _is_whole(path: Path, relieve: Callable[[], bool] | None, thorough: bool) -> bool:
    # That it can be opened proves nothing: SQLite takes an empty file for a new table.
    if _is_missing_or_empty(path):
        return False
    try:
        opened = Registry(path, relieve=relieve)
        try:
            opened.check()
            wrong = opened.check_all() if thorough else []
        finally:
            opened.close()
    except RegistryUnusable as error:
        if path.exists() and not is_damage(error):
            raise
        wrong = [str(error)]
    for line in wrong:
        log.warning("%s", line)
    return not wrong


def _is_missing_or_empty(path: Path) -> bool:
    try:
        return path.stat().st_size == 0
    except FileNotFoundError:
        return True


def _rebuild(
    layout: Layout,
    path: Path,
    now: datetime,
    find_more: Callable[[Registry], None],
    relieve: Callable[[], bool] | None,
) -> None:
    # A process that left such a file was killed: only one process at a time comes here.
    _remove_unfinished(layout)
    aside = layout.staging / f"registry.{os.getpid()}"
    try:
        found = _fill(aside, layout, now, find_more, relieve)
    except BaseException:
        _remove_unfinished(layout)
        raise
    aside.replace(path)
    if found:
        log.warning("Rebuilt %s from %d volumes on disk.", path, found)


def _fill(
    aside: Path,
    layout: Layout,
    now: datetime,
    find_more: Callable[[Registry], None],
    relieve: Callable[[], bool] | None,
) -> int:
    """Enter everything that is found into a new table; return how many volumes lie on disk."""
    fresh = Registry(aside, create=True, relieve=relieve, root=layout.root)
    found = 0
    try:
        for directory in volume_directories(layout):
            record = found_record(layout, directory, now)
            # Checked again: of a volume that was pruned meanwhile, only its backups know the name.
            if directory.exists():
                fresh.volumes.adopt(record)
                found += 1
        find_more(fresh)
    finally:
        # Closing the last connection folds the write-ahead log into the file, which then can be moved alone.
        fresh.close()
    return found


def _remove_unfinished(layout: Layout) -> None:
    for left in layout.staging.glob("registry.*"):
        left.unlink(missing_ok=True)


def volume_directories(layout: Layout) -> list[Path]:
    """Return the directories of volumes, whether or not the table knows them; log and skip anything else there."""
    return [directory for directory in sorted(layout.volumes.iterdir()) if _is_volume(directory)]


def _is_volume(directory: Path) -> bool:
    """Whether an entry of `volumes` can be a volume: a directory with a name that the table can hold."""
    try:
        directory.name.encode()
    except UnicodeEncodeError:
        log.warning("%r has a name that no volume has; it is left alone.", str(directory))
        return False
    # The staging directory and the trash add a dot and a suffix to the names of volumes.
    if "." in directory.name:
        log.warning("%s is a copy that somebody made; it is left alone.", directory)
        return False
    return directory.is_dir() and not directory.is_symlink()


def found_record(layout: Layout, directory: Path, now: datetime) -> Record:
    """Return the record of a directory that the table does not know.

    Its generation is one more than its own record says: a process killed before it wrote that record, or a machine
    that lost power, may have changed files since, and no older backup may count as a backup of those files.
    """
    own = volume_record.read(directory)
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
        own.generation + 1,
        own.created,
        stopped=None if held else now,
        pinned=own.pinned,
    )


def _set_aside(path: Path, now: datetime) -> None:
    stamp = f"{now:%Y%m%dT%H%M%SZ}.{secrets.token_hex(4)}"
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        with contextlib.suppress(FileNotFoundError):
            part.replace(path.with_name(f"{path.name}.damaged-{stamp}{suffix}"))


@contextlib.contextmanager
def _rebuilding(path: Path) -> Iterator[None]:
    """Let one process at a time rebuild; wait for another process that does."""

    def pause(waited: float) -> None:
        if waited > _REBUILD_SECONDS:
            raise RegistryUnusable(
                f"{path.with_name(FILE_NAME)} has been rebuilt by another process for "
                f"{_REBUILD_SECONDS:.0f} s; try again when it is done, or end it (`fuser` on rebuild.lock)."
            )
        time.sleep(0.02)

    with locks.unlocking(locks.lock(path, pause)):
        yield
