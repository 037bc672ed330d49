"""The pieces of an overlay: links and small files, each compared with what it should be and written if not."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from provisioner.hydration.steps.overlay.launching import LaunchingPython
from provisioner.system.files import replace_file, replacing

SHIMS = "shims"
"""The directory of our `pip`, apart from `bin`, into which the user may install another one."""

# The name sorts last of all `.pth` files: what the volume's own ones add comes before the launching environment.
_PTH = "zzzz_launching_environment.pth"

# `site` has a set of known paths in a local variable when it executes a line. Passing it on keeps that set
# correct, and pip's isolated builds isolated: they remove from sys.path what `site` adds to such a set.
_KNOWN = 'locals().get("known_paths")'
_ADD = "import site; site.addsitedir({}, {})\n"
_ADD_USER = (
    "import os, site; site.check_enableusersite() and os.path.isdir(site.getusersitepackages()) "
    "and site.addsitedir(site.getusersitepackages(), {})\n"
)

_PIP_ON_DEMAND = "pip-on-demand"
# Last on sys.path, so any real pip comes before it; an `import pip` fails as if it did not exist.
_PIP = b'''\
"""Stands in for pip where there is none: on first use, installs the one that comes with Python."""

import os
import subprocess
import sys

if __name__ != "__main__":
    raise ModuleNotFoundError("No module named 'pip'", name="pip")
ensured = subprocess.run(
    [sys.executable, "-m", "ensurepip"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
)
if ensured.returncode:
    sys.stderr.buffer.write(ensured.stdout)
    sys.exit("This Python comes without pip: install pip beside the notebook server, or use uv.")
os.execv(sys.executable, [sys.executable, "-m", "pip", *sys.argv[1:]])
'''


@dataclass(frozen=True)
class Link:
    """A symbolic link at a path, relative to the environment's root, with the target as it is written in the link."""

    path: str
    target: str

    def fits(self, root: Path) -> bool:
        """Whether it exists and points where it should."""
        try:
            return os.readlink(root / self.path) == self.target
        except OSError:
            return False

    def write(self, root: Path) -> None:
        """Create or replace it; atomic."""
        with replacing(root / self.path) as aside:
            aside.symlink_to(self.target)


@dataclass(frozen=True)
class File:
    """A small file at a path, relative to the environment's root."""

    path: str
    content: bytes
    mode: int = 0o644

    def fits(self, root: Path) -> bool:
        """Whether it exists, is whole, and can be read and run as its mode says."""
        path = root / self.path
        try:
            # The size first: a pipe or a huge file may have taken its place.
            status = path.lstat()
            return (
                status.st_size == len(self.content)
                and not self.mode & ~status.st_mode & (stat.S_IRUSR | stat.S_IXUSR)
                and path.read_bytes() == self.content
            )
        except OSError:
            return False

    def write(self, root: Path) -> None:
        """Create or replace it; atomic, but not synced: a file torn by a crash is found and written again."""
        replace_file(root / self.path, self.content, self.mode)


Piece = Link | File


def layout(python: LaunchingPython, root: Path) -> list[Piece]:
    """Return the pieces of an overlay at `root`, in the order in which they must be written.

    The interpreter comes last: an incomplete environment, whose Python would use the installation's own prefix,
    cannot be run.
    """
    own = list(filter(os.path.isdir, python.own_sites))
    base = list(filter(os.path.isdir, python.base_sites))
    has_pip = any(os.path.isdir(f"{site}/pip") for site in own + base)
    lines = [
        *(_ADD.format(ascii(site), _KNOWN) for site in own),
        *([_ADD_USER.format(_KNOWN)] if python.base_sites else []),
        *(_ADD.format(ascii(site), _KNOWN) for site in base),
        *([] if has_pip else [f"../../{_PIP_ON_DEMAND}\n"]),
    ]
    settings = (
        f"home = {Path(python.base).parent}\n"
        "include-system-site-packages = false\n"
        f"version = {'.'.join(map(str, python.version))}\n"
    )
    return [
        *([] if has_pip else [File(f"lib/{_PIP_ON_DEMAND}/pip.py", _PIP)]),
        File(f"{packages(python)}/{_PTH}", "".join(lines).encode()),
        File("pyvenv.cfg", os.fsencode(settings)),
        *_shims(python, root),
        *([] if python.platform_library == "lib" else [Link(python.platform_library, "lib")]),
        *(Link(f"bin/{name}", "python") for name in ("python3", python.library)),
        Link("bin/python", python.base),
    ]


def packages(python: LaunchingPython) -> str:
    """Return the directory that packages are installed into, relative to the environment's root."""
    return f"lib/{python.library}/site-packages"


def outdated(pieces: Iterable[Piece], root: Path) -> Iterator[Path]:
    """Yield what an overlay over another Python version left: programs that would now run this version."""
    current = {root / piece.path for piece in pieces}
    links = (path for path in (root / "bin").glob("python3.*") if path.is_symlink())
    for path in (*links, *(root / SHIMS).iterdir()):
        if path not in current:
            yield path


def _shims(python: LaunchingPython, root: Path) -> Iterator[File]:
    """Yield a pip for this environment, so that PATH does not lead to the launching environment's pip.

    They are not in `bin`: pip would overwrite them there when it installs itself, and not restore them when it
    uninstalls itself.
    """
    command = f'#!/bin/sh\nexec {shlex.quote(str(root / "bin" / "python"))} -m pip "$@"\n'
    for name in ("pip", "pip3", python.library.replace("python", "pip")):
        yield File(f"{SHIMS}/{name}", os.fsencode(command), 0o755)
