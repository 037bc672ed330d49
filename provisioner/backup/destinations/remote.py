"""Stores backups behind an fsspec URL: ``sftp://``, ``s3://`` and many more."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any, BinaryIO, TypeVar, cast

from provisioner.backup.destinations.destination import PARTIAL, Stored
from provisioner.backup.destinations.sftp import hasten, hastened_for_reading, hastened_for_writing
from provisioner.backup.format.name import STAMP, BackupName
from provisioner.core.errors import BackupFailed, BackupMissing, ConfigError, VolumeError

PARTIAL_AGE = timedelta(days=2)
"""When a sweep deletes partial files: whether a remote writer is alive is not known, but no backup takes so long."""

_PARTIAL = re.compile(re.escape(PARTIAL) + r"(\d{8}T\d{6}Z)-[0-9a-f]{16}-.*", re.ASCII)

T = TypeVar("T")


class RemoteDestination:
    """A remote directory, or a prefix of keys, that fsspec can access.

    The file system's ``mv`` gives the final name: with sftp by one rename, with S3 by a copy within the server that
    appears whole or not at all. The bytes are read back before that; whether they survive a power cut depends on the
    server. A password in the URL is never shown.

    Raises
    ------
    ConfigError
        If the scheme is unknown or needs a package that is not installed.
    """

    def __init__(self, url: str) -> None:
        self._name = re.sub(r"(://[^/@:]*):[^/]*@", r"\1:***@", url)
        scheme = url.partition("://")[0]
        try:
            from fsspec.core import url_to_fs

            with self._explained("cannot reach"):
                self._files, path = url_to_fs(url)
                hasten(self._files)
        except ImportError as error:
            raise ConfigError(
                f"backup_destination {self._name} needs a package that is missing ({error});"
                " install it: pip install 'jupyter-volumes[remote]' and what the scheme needs"
                " (sftp: paramiko, s3: s3fs)"
            ) from error
        except ValueError as error:
            raise ConfigError(
                f"backup_destination {self._name} has the scheme {scheme!r}, which fsspec does not"
                " know; use a directory, sftp://, s3:// or another scheme of fsspec"
            ) from error
        self._path = path.rstrip("/")

    def __str__(self) -> str:
        return self._name

    def backups(self) -> list[Stored]:
        """Return all complete backups, in the order of their names."""
        found = []
        for info in self._infos():
            name = BackupName.parse(info["name"].rpartition("/")[2])
            if name is not None and info["type"] == "file":
                found.append(Stored(name, int(info["size"])))
        return sorted(found)

    def put(
        self,
        name: BackupName,
        write: Callable[[BinaryIO], T],
        check: Callable[[BinaryIO], object],
        *,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> T:
        """Store one backup; see :meth:`Destination.put`."""
        stamp = datetime.now(timezone.utc).strftime(STAMP)
        partial = f"{self._path}/{PARTIAL}{stamp}-{secrets.token_hex(8)}-{name}"
        with self._explained("cannot write a backup to"):
            self._files.makedirs(self._path, exist_ok=True)
            self._files.invalidate_cache()
            if self._files.exists(f"{self._path}/{name}"):
                raise BackupFailed(f"{self}/{name} exists already; try again in a second")
            try:
                with self._files.open(partial, "wb") as stream:
                    on_step("put:created")
                    written = write(cast("BinaryIO", hastened_for_writing(stream)))
                    on_step("put:written")
                on_step("put:flushed")
                with self._reading(partial) as stream:
                    check(stream)
                on_step("put:checked")
                self._files.mv(partial, f"{self._path}/{name}")
                on_step("put:renamed")
            except BaseException:
                # The error is the one to report; a later sweep deletes the file.
                with contextlib.suppress(Exception):
                    self._files.rm_file(partial)
                raise
        on_step("put:done")
        return written

    @contextlib.contextmanager
    def open(self, name: BackupName) -> Iterator[BinaryIO]:
        """Open a backup for reading."""
        with self._explained("cannot read from"):
            self._files.invalidate_cache()
            try:
                reading = self._reading(f"{self._path}/{name}")
            except FileNotFoundError:
                raise BackupMissing(
                    f"{self} has no backup {name}; list them with: jupyter volumes backups"
                ) from None
            with reading as stream:
                yield stream

    def delete(self, name: BackupName) -> None:
        """Delete a backup."""
        with self._explained("cannot delete from"), contextlib.suppress(FileNotFoundError):
            self._files.rm_file(f"{self._path}/{name}")

    def free_bytes(self) -> int | None:
        """Return None: fsspec does not ask servers for their free space."""
        return None

    def sweep_partials(self, now: datetime) -> list[str]:
        """Delete partial files that were created more than :data:`PARTIAL_AGE` ago."""
        swept = []
        oldest = (now - PARTIAL_AGE).astimezone(timezone.utc).strftime(STAMP)
        for info in self._infos():
            name = info["name"].rpartition("/")[2]
            match = _PARTIAL.fullmatch(name)
            if match and match[1] < oldest:  # the digits of moments have the moments' order
                with self._explained("cannot clean up"):
                    self._files.rm_file(info["name"])
                swept.append(name)
        return sorted(swept)

    def _infos(self) -> list[dict[str, Any]]:
        with self._explained("cannot list the backups in"):
            self._files.invalidate_cache()
            infos: list[dict[str, Any]] = []
            with contextlib.suppress(FileNotFoundError):
                infos = self._files.ls(self._path, detail=True)
            return infos

    def _reading(self, path: str) -> contextlib.closing[BinaryIO]:
        return contextlib.closing(hastened_for_reading(self._files.open(path, "rb")))

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except (VolumeError, FileNotFoundError, ImportError, ValueError):
            raise
        except Exception as error:  # each file system of fsspec has its own errors
            reason = str(error)[:200] or type(error).__name__
            raise BackupFailed(
                f"{what} {self}: {reason}; check the server, the credentials and the space there"
            ) from error
