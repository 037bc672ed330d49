"""The Python interpreter of a launch: whether there is one, which one, and whether its version is allowed."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from provisioner.core.errors import HydrationFailed
from provisioner.hydration.step import Launch

_PYTHON = re.compile(r"python(\d+(\.\d+)*)?$")


def runs_python(launch: Launch) -> bool:
    """Whether the command line starts a Python interpreter."""
    return launch.argv[0] == sys.executable or bool(_PYTHON.match(Path(launch.argv[0]).name))


def is_left_open(argv0: str) -> bool:
    """Whether a command line leaves the choice of its Python to the environment.

    `python`, `python3` and `python3.N` do. The server's own interpreter does too: jupyter_client's
    `format_kernel_cmd` writes it in place of the bare names, and `ipykernel install` writes it into kernel.json.
    Any other path was chosen by the user.
    """
    return argv0 == sys.executable or (os.sep not in argv0 and bool(_PYTHON.match(argv0)))


def find_python(path: str) -> str | None:
    """Return the first Python on a PATH."""
    return shutil.which("python3", path=path) or shutil.which("python", path=path)


def interpreter(launch: Launch) -> str:
    """Return the interpreter that a launch runs; for a kernel of another language, the first one on its PATH.

    Symbolic links are kept: a virtual environment's interpreter is one.
    """
    path = launch.env.get("PATH", os.defpath)
    if runs_python(launch):
        return shutil.which(launch.argv[0], path=path) or launch.argv[0]
    return find_python(path) or sys.executable


def check_version(required: str | None, version: str) -> None:
    """Raise HydrationFailed if a version does not fit a specifier such as `>=3.11`, or that is no specifier."""
    if required is None:
        return
    # Imported here: few kernelspecs require a version, and every kernel start would pay for the import.
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        fits = SpecifierSet(required).contains(version, prereleases=True)
    except InvalidSpecifier:
        raise HydrationFailed(
            f"requires-python {required!r} is no version specifier: write it like '>=3.11'"
        ) from None
    if not fits:
        raise HydrationFailed(
            f"requires-python is {required!r}, and the kernel's interpreter is "
            f"Python {version}: choose another kernel or widen it"
        )
