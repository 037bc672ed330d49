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
from provisioner.backup.space import free_bytes
from provisioner.core.errors import BackupFailed, BackupMissing, DiskFull
from provisioner.system.files import sync_directory
from provisioner.system.forks import Descriptor
from provisioner.system.locks import try_lock

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = {errno.ENOSPC, errno.EDQUOT}
_FLUSH_EVERY = 64 << 20

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
        check: Callable[[BinaryIO, T], object],
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
                    written = self._fill(file, write, on_step)
                    with open(file, "rb", closefd=False) as stream:
                        stream.seek(0)
                        check(stream, written)
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
        try:
            file = os.open(self._path / str(name), _READ)
        except FileNotFoundError:
            what_next = (
                "list them with: jupyter volumes backups"
                if self.backups()
                else "there is none at all: is its disk mounted?"
            )
            raise BackupMissing(f"{self} has no backup {name}; {what_next}") from None
        except OSError as error:
            raise BackupFailed(
                f"cannot open {self._path / str(name)}: {error.strerror}; check its permissions"
            ) from error
        with open(file, "rb", buffering=0) as stream:
            yield cast("BinaryIO", stream)

    def delete(self, name: BackupName) -> None:
        """Delete a backup."""
        with (
            _explained(f"cannot delete {self._path / str(name)}"),
            contextlib.suppress(FileNotFoundError),
        ):
            (self._path / str(name)).unlink()
            sync_directory(self._path)

    def free_bytes(self) -> int | None:
        """Return how many bytes this user may still write; None if that is not known."""
        for directory in (self._path, *self._path.absolute().parents):
            with contextlib.suppress(FileNotFoundError):
                return free_bytes(directory)
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

    def _fill(self, file: int, write: Callable[[BinaryIO], T], on_step: Callable[[str], None]) -> T:
        with _FlushedFile(file) as stream:
            written = write(cast("BinaryIO", stream))
            on_step("put:written")
        os.fsync(file)
        on_step("put:flushed")
        return written


class _FlushedFile(FileIO):
    """A file that is flushed to disk in the background while it is written.

    A single flush at the end of a large backup would take long, and could not be cancelled. `close` leaves the
    descriptor open: it belongs to the `Descriptor` that a forked child closes.
    """

    def __init__(self, file: int) -> None:
        super().__init__(file, "wb", closefd=False)
        self._unflushed = 0
        self._flusher: threading.Thread | None = None

    def write(self, data: bytes) -> int:  # type: ignore[override]  # all callers pass bytes
        view = memoryview(data)
        done = super().write(view) or 0
        while done < len(view):
            done += super().write(view[done:]) or 0
        self._unflushed += done
        if self._unflushed >= _FLUSH_EVERY and not (self._flusher and self._flusher.is_alive()):
            self._unflushed = 0
            self._flusher = threading.Thread(target=self._flush_now, daemon=True)
            self._flusher.start()
        return done

    def close(self) -> None:
        if getattr(self, "_flusher", None) is not None:
            assert self._flusher is not None
            self._flusher.join()
        super().close()

    def _flush_now(self) -> None:
        # The last fsync, whose result counts, reports an error again.
        with contextlib.suppress(OSError):
            os.fsync(self.fileno())


def _unlink_unlocked(partial: Path) -> bool:
    """Delete a partial file that no process has locked; return whether it was deleted."""
    try:
        if (lock := try_lock(partial, os.O_RDWR)) is None:
            return False
        with lock:
            partial.unlink()
    except OSError:  # it has gone, or a live writer has locked or renamed it
        return False
    return True


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
