"""The table of volumes, their names, spares and backups, in one SQLite file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from provisioner.core.errors import RegistryUnusable
from provisioner.registry.backups import Backups
from provisioner.registry.database import Database, Recover
from provisioner.registry.faults import is_damage
from provisioner.registry.names import Names
from provisioner.registry.spares import Spares
from provisioner.registry.volumes import Volumes

FILE_NAME = "registry.sqlite3"


class Registry:
    """The table under one root: `volumes`, `names`, `spares` and `backups` over one database.

    Raises `RegistryUnusable` as `database.Database`.

    Parameters
    ----------
    path, recover, create, relieve
        As for `database.Database`: its file, and what is done where that is lost, missing or on a full disk.
    root
        The root whose table it is, if it does not lie there yet.
    """

    def __init__(
        self,
        path: Path,
        recover: Recover | None = None,
        create: bool = False,
        relieve: Callable[[], bool] | None = None,
        root: Path | None = None,
    ) -> None:
        self.path = path
        self.database = Database(path, recover, create, relieve)
        self.volumes = Volumes(self.database)
        self.names = Names(self.database)
        self.spares = Spares(self.database)
        self.backups = Backups(self.database, root or path.parent)

    def close(self) -> None:
        """Close the database; calling it twice is harmless."""
        self.database.close()

    def check_all(self) -> list[str]:
        """Check every page and read every row; return what is wrong, nothing if all is well."""
        try:
            wrong = self.database.read("PRAGMA integrity_check", (), lambda row: str(row[0]))
            self.volumes.all()
            self.volumes.slots_taken()
            self.backups.all()
            self.database.read("SELECT * FROM former_names", (), tuple)
        except RegistryUnusable as error:
            if not is_damage(error):
                raise
            return [str(error)]
        return [line for line in wrong if line != "ok"]
