"""Stores backups in a local directory."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from io import FileIO
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

from provisioner.backup.destinations.destination import PARTIAL, Stored
from provisioner.backup.format.name import BackupName
from provisioner.core.errors import BackupFailed, BackupMissing, DiskFull
from provisioner.system.files import sync_directory
from provisioner.system.forks import Descriptor
from provisioner.system.locks import try_lock

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = {errno.ENOSPC, errno.EDQUOT}
_FLUSH_SECONDS = 1.0

T = TypeVar("T")


class DirectoryDestination:
    """A directory, created with mode 0700 at the first backup; its files have mode 0600.

    A writer holds an OS lock on its partial file. A sweep can therefore distinguish the files of killed writers from
    those of live ones without clocks or process ids.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    def backups(self) -> list[Stored]:
        """Return all complete backups, in the order of their names."""
        found = []
        with (
            _explained(f"cannot list the backups in {self}"),
            contextlib.suppress(FileNotFoundError),
            os.scandir(self._path) as entries,
        ):
            for entry in entries:
                name = BackupName.parse(entry.name)
                if name is not None and entry.is_file(follow_symlinks=False):
                    found.append(Stored(name, entry.stat(follow_symlinks=False).st_size))
        return sorted(found)

    def put(
        self,
        name: BackupName,
        write: Callable[[BinaryIO], T],
        check: Callable[[BinaryIO], object],
        *,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> T:
        """Store one backup; see :meth:`Destination.put`. One rename gives the final name."""
        final = self._path / str(name)
        with _explained(f"cannot write a backup to {self}"):
            self._path.mkdir(0o700, parents=True, exist_ok=True)
            if final.exists():
                raise BackupFailed(f"{final} exists already; try again in a second")
            partial, descriptor = self._create(name)
            with descriptor as file:
                try:
                    on_step("put:created")
                    with _flushing(file), _Whole(file, "wb", closefd=False) as stream:
                        written = write(cast("BinaryIO", stream))
                        on_step("put:written")
                    os.fsync(file)
                    on_step("put:flushed")
                    with open(file, "rb", closefd=False) as written_file:
                        written_file.seek(0)
                        check(written_file)
                    on_step("put:checked")
                    partial.rename(final)
                    on_step("put:renamed")
                except BaseException:
                    partial.unlink(missing_ok=True)
                    raise
            sync_directory(self._path)
        on_step("put:done")
        return written

    @contextlib.contextmanager
    def open(self, name: BackupName) -> Iterator[BinaryIO]:
        """Open a backup for reading."""
        path = self._path / str(name)
        try:
            file = os.open(path, _READ)
        except FileNotFoundError:
            what_next = (
                "list them with: jupyter volumes backups"
                if self.backups()
                else "there is none at all: is its disk mounted?"
            )
            raise BackupMissing(f"{self} has no backup {name}; {what_next}") from None
        except OSError as error:
            raise BackupFailed(
                f"cannot open {path}: {error.strerror}; check its permissions"
            ) from error
        with open(file, "rb", buffering=0) as stream:
            yield cast("BinaryIO", stream)

    def delete(self, name: BackupName) -> None:
        """Delete a backup."""
        path = self._path / str(name)
        with _explained(f"cannot delete {path}"), contextlib.suppress(FileNotFoundError):
            path.unlink()
            sync_directory(self._path)

    def free_bytes(self) -> int | None:
        """Return how many bytes this user may still write; None if that is not known."""
        for directory in (self._path, *self._path.absolute().parents):
            with contextlib.suppress(FileNotFoundError):
                state = os.statvfs(directory)
                # ramfs and some network file systems count no blocks.
                return state.f_bavail * state.f_frsize if state.f_blocks else None
        return None

    def sweep_partials(self, now: datetime) -> list[str]:
        """Delete the partial files that no process has locked; `now` is not used."""
        with _explained(f"cannot clean up {self}"):
            try:
                names = sorted(n for n in os.listdir(self._path) if n.startswith(PARTIAL))
            except FileNotFoundError:
                return []
            return [name for name in names if _unlink_unlocked(self._path / name)]

    def _create(self, name: BackupName) -> tuple[Path, Descriptor]:
        while True:
            partial = self._path / f"{PARTIAL}{secrets.token_hex(8)}-{name}"
            # None if a sweep found the new file before it was locked, and is about to delete it.
            if (descriptor := try_lock(partial, _CREATE)) is not None:
                return partial, descriptor


class _Whole(FileIO):
    """An unbuffered file that writes all that it is given: a forked child must have nothing left to write."""

    def write(self, data: bytes) -> int:  # type: ignore[override]  # all callers pass bytes
        done = 0
        while done < len(data):
            done += super().write(memoryview(data)[done:])
        return done


@contextlib.contextmanager
def _flushing(file: int) -> Iterator[None]:
    """Flush a file every second: one flush at the end would take long, and could not be cancelled."""
    written = threading.Event()
    failures: list[OSError] = []

    def flush() -> None:
        while not failures and not written.wait(_FLUSH_SECONDS):
            try:
                os.fsync(file)
            except OSError as error:  # reported once only: a later fsync would succeed
                failures.append(error)

    thread = threading.Thread(target=flush, daemon=True)
    thread.start()
    try:
        yield
    finally:
        written.set()
        thread.join()
    for failure in failures:
        raise failure


def _unlink_unlocked(partial: Path) -> bool:
    """Delete a partial file that no process has locked; return whether it was deleted."""
    with contextlib.suppress(OSError):  # it has gone, or a live writer has renamed it
        if (lock := try_lock(partial, os.O_RDWR)) is not None:
            with lock:
                partial.unlink()
                return True
    return False


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(f"{what}: the disk is full; free some space and try again") from error
        raise BackupFailed(
            f"{what}: {error.strerror or error}; check the path and its permissions"
        ) from error
