"""What the errors of SQLite mean, and what people are told of them."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

from provisioner.core.errors import RegistryUnusable

_DAMAGE = (
    "malformed",
    "not a database",
    "corrupt",
    "no such table",
    "no such column",
    "already exists",  # the schema is there, the version that says so is not
    "unsupported file format",
    "decode to UTF-8",
)


def is_damage(error: BaseException | None) -> bool:
    """Whether an error, or what caused a `RegistryUnusable`, means that the file may be rebuilt from the volumes."""
    if isinstance(error, RegistryUnusable):
        error = error.__cause__
    return isinstance(error, sqlite3.DatabaseError) and any(word in str(error) for word in _DAMAGE)


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another process keeps the file locked."""
    return isinstance(error, sqlite3.OperationalError) and (
        "locked" in str(error) or "busy" in str(error)
    )


def is_full(error: sqlite3.Error, path: Path) -> bool:
    """Whether the disk is full: SQLite may say "disk I/O error" or "unable to open", since its files need room."""
    try:
        return "full" in str(error) or shutil.disk_usage(path.parent).free < 64 * 1024
    except OSError:
        return False


def unusable(error: sqlite3.Error, path: Path, seconds: float) -> RegistryUnusable:
    """Return the refusal to use a file, after another process was waited for so many seconds."""
    said = str(error)
    # SQLite says "unable to open" of an existing file if it cannot make its own files beside it.
    is_unwritable = path.exists() and not os.access(path.parent, os.W_OK)
    if is_busy(error):
        what = (
            f"has been locked by another process for {seconds:.0f} s; find it with `fuser` on that file and end it, "
            "or try again."
        )
    elif "readonly" in said or "read-only" in said or is_unwritable:
        what = "cannot be written (read-only); make it and its directory writable for you."
    elif is_damage(error):
        what = f"is damaged ({said}); `jupyter volumes doctor --repair` rebuilds it from the volumes on disk."
    elif is_full(error, path):
        what = "cannot grow (disk full); free some space and try again."
    elif "unable to open" in said:
        what = "cannot be opened; check that it exists, and that it and its directory are yours."
    else:
        what = f"failed ({said}); run `jupyter volumes doctor`."
    return RegistryUnusable(f"{path} {what}")
