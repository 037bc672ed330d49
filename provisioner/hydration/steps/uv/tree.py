"""A virtual environment as files: put in place, rid of stale bytecode, made to fit a new place."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from provisioner.system.files import replace_file

_HEAD = 4096  # bytes of a script in which its interpreter is named


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


def relocate(directory: Path, before: Path, after: Path) -> None:
    """Correct the scripts of an environment that lay elsewhere before; doing it twice changes nothing.

    What uv installs finds its interpreter by itself. What `pip` installs names it by its full path.

    Parameters
    ----------
    directory
        Where the environment is now.
    before
        The place that its scripts name.
    after
        The place that they shall name: the directory itself, or where it will be put.
    """
    old, new = os.fsencode(before / "bin") + b"/", os.fsencode(after / "bin") + b"/"
    for script in (directory / "bin").iterdir():
        if script.is_symlink() or not script.is_file():
            continue
        content = script.read_bytes()
        head, rest = content[:_HEAD], content[_HEAD:]
        if head.startswith(b"#!") and old in head:
            mode = stat.S_IMODE(script.stat().st_mode)
            replace_file(script, head.replace(old, new) + rest, mode)


def site_packages(environment: Path) -> Path | None:
    """Return where an environment's packages are."""
    return next(iter(environment.glob("lib/python*/site-packages")), None)
