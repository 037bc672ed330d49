"""The table of volumes, their names, spares and backups, in one SQLite file."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from provisioner.core.errors import RegistryUnusable
from provisioner.registry.backups import Backups
from provisioner.registry.database import PATIENCE, Database, Recover, is_damage
from provisioner.registry.names import Names
from provisioner.registry.rows import Rows
from provisioner.registry.schema import MIGRATIONS
from provisioner.registry.spares import Spares
from provisioner.registry.volumes import Volumes

FILE_NAME = "registry.sqlite3"


class Registry:
    """The table under one root: `volumes`, `names`, `spares` and `backups` over one database.

    Parameters
    ----------
    path, recover, patience, create, relieve
        As for `database.Database`: its file, and what is done where that is lost, locked, missing or on a full disk.
    root
        The root whose table it is, if it does not lie there yet.

    Raises
    ------
    RegistryUnusable
        As `database.Database`.
    """

    def __init__(
        self,
        path: Path,
        recover: Recover | None = None,
        patience: timedelta = PATIENCE,
        create: bool = False,
        relieve: Callable[[], bool] | None = None,
        root: Path | None = None,
    ) -> None:
        self.path = path
        self._database = Database(path, MIGRATIONS, recover, patience, create, relieve)
        self._rows = Rows(self._database)
        self.volumes = Volumes(self._rows)
        self.names = Names(self._rows)
        self.spares = Spares(self._rows)
        self.backups = Backups(self._rows, root or path.parent)

    def close(self) -> None:
        """Close the database; calling it twice is harmless."""
        self._database.close()

    def check(self) -> None:
        """Read the table's first pages and its schema.

        Raises
        ------
        RegistryUnusable
            If they are damaged. The whole file is checked by `check_all`.
        """
        for table in ("sqlite_master", "volumes", "former_names", "backups"):
            self._rows.read(f"SELECT * FROM {table} LIMIT 1", (), tuple)  # noqa: S608 - names of this module

    def check_all(self) -> list[str]:
        """Check every page and read every row; return what is wrong, nothing if all is well."""
        try:
            wrong = self._rows.read("PRAGMA integrity_check", (), lambda row: str(row[0]))
            self.volumes.all()
            self.backups.all()
        except RegistryUnusable as error:
            if not is_damage(error):
                raise
            return [str(error)]
        return [line for line in wrong if line != "ok"]
