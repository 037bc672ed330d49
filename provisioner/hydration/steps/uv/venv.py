"""A virtual environment of uv as files: its record, whether it is usable, and how a new one replaces it."""

from __future__ import annotations

import contextlib
import filecmp
import os
from pathlib import Path
from typing import Any

from provisioner.hydration.records import read_record
from provisioner.hydration.steps.python.owners import Owner, beside

RECORD = "hydrated.json"
"""The file in an environment that is its record."""


def record_of(environment: Path) -> dict[str, Any]:
    """Return the record of an environment that the uv step made; empty for any other."""
    record = read_record(environment / RECORD)
    texts = all(isinstance(record.get(name), str) for name in ("key", "prefix", "interpreter"))
    return record if texts and isinstance(record.get("installed"), list) else {}


def is_usable(environment: Path) -> bool:
    """Whether it is a virtual environment with an interpreter."""
    return (environment / "bin/python").exists() and (environment / "pyvenv.cfg").is_file()


def is_ours(environment: Path) -> bool:
    """Whether it is usable, and no overlay has been laid into it, which would see the server's packages."""
    owner = Owner.read(environment)
    return is_usable(environment) and (owner is None or owner.maker == "uv")


def swap(environment: Path, new: Path) -> None:
    """Replace an environment by a new one; the old one is then beside it.

    It takes two renames: a crash between them leaves no environment, and `recover` brings the old one back.
    """
    if os.path.lexists(environment):
        environment.rename(beside(environment, "old"))
    new.rename(environment)


def recover(environment: Path) -> None:
    """Undo an unfinished swap."""
    old = beside(environment, "old")
    if old.exists() and not environment.exists():
        old.rename(environment)


def drop_stale_bytecode(old: Path, new: Path) -> None:
    """Remove bytecode in a copy of an environment whose source has been replaced in the copy.

    uv leaves the bytecode of what it uninstalls. Python takes it for that of the new source if that has the same
    size and second: two versions that differ in one digit, unpacked one after the other. The kernel that imports
    such a module compiles it again.
    """
    for directory, _, names in os.walk(new):
        here = Path(directory)
        for name in names if here.name == "__pycache__" else ():
            compiled, source = here / name, here.parent / f"{name.partition('.')[0]}.py"
            with contextlib.suppress(OSError):  # what cannot be compared stays
                kept, same = (filecmp.cmp(p, old / p.relative_to(new)) for p in (compiled, source))
                if kept and not same:
                    compiled.unlink()
