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
from provisioner.registry.faults import is_damage
from provisioner.registry.registry import FILE_NAME, Registry
from provisioner.settings.log import log
from provisioner.system import lease, locks, volume_record
from provisioner.system.layout import Layout

_REBUILD_SECONDS = 300.0
"""How long to wait for another process that rebuilds the table; reading 10,000 backups takes a minute."""


class Rebuilder:
    """Opens the table of a root, and rebuilds it if it is missing though there are volumes, or is damaged.

    A damaged table is kept beside the new one, as `registry.sqlite3.damaged-<time>`.

    Parameters
    ----------
    find_more
        Enters what lies elsewhere than under the root: the backups.
    relieve
        Makes room on a full disk; returns whether it could.
    """

    def __init__(
        self,
        layout: Layout,
        clock: Callable[[], datetime],
        find_more: Callable[[Registry], None],
        relieve: Callable[[], bool],
    ) -> None:
        self._layout = layout
        self._path = layout.root / FILE_NAME
        self._clock = clock
        self._find_more = find_more
        self._relieve = relieve

    def open(self) -> Registry:
        """Return the table, rebuilt if need be, now and whenever it is found lost or damaged later.

        Raises `RegistryUnusable` if the table is locked, read-only or of a newer version: nothing that rebuilding would
        cure.
        """
        return Registry(self._path, recover=self.ensure, relieve=self._relieve)

    def ensure(self, thorough: bool) -> None:
        """Rebuild the table if it is missing; with `thorough`, also if any page of it is damaged.

        One process at a time rebuilds. Raises `RegistryUnusable` as `open`.
        """
        if self._is_whole(thorough):
            return
        with _rebuilding(self._layout.root / "rebuild.lock"):
            # Another process may have been here first.
            if not self._is_whole(thorough):
                set_aside(self._path, self._clock())
                self._rebuild()

    def _is_whole(self, thorough: bool) -> bool:
        try:
            # SQLite takes an empty file for a new table.
            if not self._path.stat().st_size:
                return False
            # Other damage is found by the call that meets it, which then asks for the thorough look.
            if not thorough:
                return True
            with contextlib.closing(Registry(self._path, relieve=self._relieve)) as opened:
                wrong = opened.check_all()
        except FileNotFoundError:
            return False
        except RegistryUnusable as error:
            if self._path.exists() and not is_damage(error):
                raise
            wrong = [str(error)]
        for line in wrong:
            log.warning("%s", line)
        return not wrong

    def _rebuild(self) -> None:
        # A process that left such a file was killed: only one process at a time comes here.
        self._remove_unfinished()
        aside = self._layout.staging / f"registry.{os.getpid()}"
        try:
            found = self._fill(aside)
            aside.replace(self._path)
        finally:
            self._remove_unfinished()
        if found:
            log.warning("Rebuilt %s from %d volumes on disk.", self._path, found)

    def _remove_unfinished(self) -> None:
        for left in self._layout.staging.glob("registry.*"):
            left.unlink(missing_ok=True)

    def _fill(self, aside: Path) -> int:
        """Enter everything that is found into a new table; return how many volumes lie on disk."""
        found = 0
        fresh = Registry(aside, create=True, relieve=self._relieve, root=self._layout.root)
        # Closing the last connection folds the write-ahead log into the file, which then can be moved alone.
        with contextlib.closing(fresh):
            for directory in volume_directories(self._layout):
                record = found_record(self._layout, directory, self._clock())
                # Checked again: of a volume that was pruned meanwhile, only its backups know the name.
                if directory.exists():
                    fresh.volumes.adopt(record)
                    found += 1
            self._find_more(fresh)
        return found


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
    note, own = "", volume_record.read(directory)
    if own is None or own.id != directory.name:
        note, name = "its record was lost", f"recovered:{directory.name}"
        own = volume_record.VolumeRecord(directory.name, name, "", 0, now)
    held = lease.is_held(layout.lease(directory.name))
    return Record(
        own.id,
        own.session,
        own.kernelspec,
        State.ACTIVE if held else State.STOPPED,
        own.generation + 1,
        own.created,
        stopped=None if held else now,
        pinned=own.pinned,
        note=note,
    )


def set_aside(path: Path, now: datetime) -> None:
    """Rename a damaged table and SQLite's files beside it."""
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
