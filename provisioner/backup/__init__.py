"""Backups: written, verified and restored as ``.tar.zst``, and where they lie.

This room knows no pool, lease, registry or policy. Its names are loaded when first used, so that
importing it costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from provisioner.backup.destination import Destination, Stored
    from provisioner.backup.exclusion import Exclusions
    from provisioner.backup.manifest import About, Manifest, Noted
    from provisioner.backup.name import BackupName
    from provisioner.backup.operation import (
        Backup,
        gently,
        read_summary,
        restore_backup,
        verify_backup,
        write_backup,
    )
    from provisioner.backup.place import destination_for
    from provisioner.backup.space import estimate

__all__ = [
    "About",
    "Backup",
    "BackupName",
    "Destination",
    "Exclusions",
    "Manifest",
    "Noted",
    "Stored",
    "destination_for",
    "estimate",
    "gently",
    "read_summary",
    "restore_backup",
    "verify_backup",
    "write_backup",
]

_HOME = {
    "About": "manifest",
    "Backup": "operation",
    "BackupName": "name",
    "Destination": "destination",
    "Exclusions": "exclusion",
    "Manifest": "manifest",
    "Noted": "manifest",
    "Stored": "destination",
    "destination_for": "place",
    "estimate": "space",
    "gently": "operation",
    "read_summary": "operation",
    "restore_backup": "operation",
    "verify_backup": "operation",
    "write_backup": "operation",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
