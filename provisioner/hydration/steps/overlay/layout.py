"""The pieces of an overlay environment over a given Python."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from provisioner.hydration.pieces import PROGRAM, File, Link, Piece
from provisioner.hydration.steps.overlay.launching import LaunchingPython

SHIMS = "shims"
"""The directory of the programs that stand in for ones the user may install into `bin`."""

# Read last of all `.pth` files: what the volume's own ones add comes before the launching environment.
_PTH = "zzzz_launching_environment.pth"

# `site` hands an executed line its set of known paths, as a local variable of the caller. Passing it on keeps
# that set true, and pip's isolated builds isolated: they take out of sys.path what `site` adds to such a set.
_KNOWN = 'locals().get("known_paths")'
_ADD = "import site; site.addsitedir({}, {})\n"
_ADD_USER = (
    "import os, site; site.check_enableusersite() and os.path.isdir(site.getusersitepackages()) "
    "and site.addsitedir(site.getusersitepackages(), {})\n"
)

_PIP_ON_DEMAND = "pip-on-demand"
# Last on sys.path, so any real pip comes before it; and for those who import it, it is not there.
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


def layout(python: LaunchingPython, root: Path) -> list[Piece]:
    """Return the pieces of an overlay at `root`, in the order in which they are to be written.

    The interpreter comes last: an environment that is not whole, and would be the installation's own, cannot
    be run.
    """
    own, base = _existing(python.own_sites), _existing(python.base_sites)
    has_pip = any(os.path.isdir(f"{site}/pip") for site in own + base)
    lines = [
        *(_ADD.format(ascii(site), _KNOWN) for site in own),
        *([_ADD_USER.format(_KNOWN)] if python.base_sites else []),
        *(_ADD.format(ascii(site), _KNOWN) for site in base),
        *([] if has_pip else [f"../../{_PIP_ON_DEMAND}\n"]),
    ]
    return [
        *([] if has_pip else [File(f"lib/{_PIP_ON_DEMAND}/pip.py", _PIP)]),
        File(f"{packages(python)}/{_PTH}", "".join(lines).encode()),
        File("pyvenv.cfg", os.fsencode(_settings(python))),
        *_shims(python, root),
        *([] if python.platform_library == "lib" else [Link(python.platform_library, "lib")]),
        *(Link(f"bin/{name}", "python") for name in ("python3", python.library)),
        Link("bin/python", python.base),
    ]


def packages(python: LaunchingPython) -> str:
    """Return the directory that packages are installed into, from the environment's root."""
    return f"lib/{python.library}/site-packages"


def outdated(pieces: Iterable[Piece], root: Path) -> Iterator[Path]:
    """Find what an overlay over another version of Python has left: programs that now run this one."""
    current = {root / piece.path for piece in pieces}
    links = (path for path in (root / "bin").glob("python3.*") if path.is_symlink())
    for path in (*links, *(root / SHIMS).iterdir()):
        if path not in current:
            yield path


def _shims(python: LaunchingPython, root: Path) -> Iterator[File]:
    """Yield a pip that is this environment's, lest the launching environment's is found on PATH.

    They are not in `bin`, where pip would overwrite them as it installs itself, and not restore them as it
    uninstalls itself.
    """
    command = f'#!/bin/sh\nexec {shlex.quote(str(root / "bin" / "python"))} -m pip "$@"\n'
    for name in ("pip", "pip3", python.library.replace("python", "pip")):
        yield File(f"{SHIMS}/{name}", os.fsencode(command), PROGRAM)


def _settings(python: LaunchingPython) -> str:
    return (
        f"home = {Path(python.base).parent}\n"
        "include-system-site-packages = false\n"
        f"version = {'.'.join(map(str, python.version))}\n"
    )


def _existing(sites: tuple[str, ...]) -> list[str]:
    return [site for site in sites if os.path.isdir(site)]
