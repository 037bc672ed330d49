"""A virtual environment as files: copied by links, put in place, made to fit a new place."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from threading import Event

from provisioner.errors import Cancelled

_HEAD = 4096  # bytes of a script in which its interpreter is named


def clone(source: Path, target: Path, cancel: Event) -> None:
    """Copy an environment by hard links, so that it can be changed while the old one stays.

    Installers replace files and do not write into them (nor do we into our record); uv's own links into
    its cache rely on that as well. Where links are impossible (another file system, too many of them),
    files are copied.

    Raises
    ------
    Cancelled
        `cancel` was set; the target is incomplete then.
    """
    for directory, folders, names in os.walk(source):
        if cancel.is_set():
            raise Cancelled("hydration was cancelled; start the kernel again to resume it")
        there = target / Path(directory).relative_to(source)
        there.mkdir(mode=0o755)
        here = Path(directory)
        for name in [*names, *(n for n in folders if (here / n).is_symlink())]:
            _link(here / name, there / name)


def _link(source: Path, target: Path) -> None:
    if source.is_symlink():
        target.symlink_to(source.readlink())
    elif source.is_file():
        try:
            target.hardlink_to(source)
        except OSError:
            shutil.copy2(source, target)


def drop_stale_bytecode(old: Path, new: Path) -> None:
    """Remove bytecode in a clone whose source has been replaced there since.

    uv leaves the bytecode of what it uninstalls. Python takes it for that of the new source if that has the
    same size and second: two versions that differ in a digit, unpacked one after the other. What is removed
    here is compiled anew by the kernel that imports it.
    """
    for directory, _, names in os.walk(new):
        here = Path(directory)
        if here.name == "__pycache__":
            there = old / here.relative_to(new)
            for name in names:
                source = f"{name.partition('.')[0]}.py"
                kept = _stamp(here / name) == _stamp(there / name)
                if kept and _stamp(here.parent / source) != _stamp(there.parent / source):
                    (here / name).unlink()


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def swap(environment: Path, new: Path, old: Path) -> None:
    """Put a new environment in the place of the old one, which then is at `old`.

    Two renames: a crash between them leaves no environment, and `recover` brings the old one back.
    """
    if environment.exists() or environment.is_symlink():
        environment.rename(old)
    new.rename(environment)


def recover(environment: Path, old: Path) -> None:
    """Undo a swap that was not finished."""
    if old.exists() and not environment.exists():
        old.rename(environment)


def relocate(environment: Path, before: Path) -> None:
    """Correct the scripts of an environment that lay elsewhere before; doing it twice changes nothing.

    What uv installs finds its interpreter by itself. What `pip` installs names it by its full path.
    """
    old, new = f"{before}/bin/".encode(), f"{environment}/bin/".encode()
    for script in (environment / "bin").iterdir():
        if script.is_symlink() or not script.is_file():
            continue
        content = script.read_bytes()
        head, rest = content[:_HEAD], content[_HEAD:]
        if head.startswith(b"#!") and old in head:
            aside = script.with_name(f"{script.name}.new")
            aside.write_bytes(head.replace(old, new) + rest)
            shutil.copymode(script, aside)
            aside.replace(script)


def site_packages(environment: Path) -> Path | None:
    """Return where an environment's packages are."""
    return next(iter(environment.glob("lib/python*/site-packages")), None)
