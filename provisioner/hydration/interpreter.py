"""The Python interpreter of a launch: whether there is one, and which one it is."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from provisioner.hydration.step import Launch

_PYTHON = re.compile(r"python(\d+(\.\d+)*)?$")


def runs_python(launch: Launch) -> bool:
    """Whether the command line starts a Python interpreter."""
    return launch.argv[0] == sys.executable or bool(_PYTHON.match(Path(launch.argv[0]).name))


def left_open(argv0: str) -> bool:
    """Whether a command line leaves it to the environment which Python it runs.

    `python`, `python3` and `python3.N` do. So does the server's own interpreter: jupyter_client's
    `format_kernel_cmd` writes that in place of the bare names, whatever the environment brings, and
    `ipykernel install` writes it into kernel.json. Any other path was somebody's choice.
    """
    return argv0 == sys.executable or (os.sep not in argv0 and bool(_PYTHON.match(argv0)))


def find_python(path: str) -> str | None:
    """Return the Python that a PATH brings."""
    return shutil.which("python3", path=path) or shutil.which("python", path=path)


def interpreter(launch: Launch) -> str:
    """Return the interpreter that a launch runs, or for another language's kernel would run.

    Its symbolic links are kept: resolving them would leave the virtual environment that they make.
    """
    path = launch.env.get("PATH", os.defpath)
    if runs_python(launch):
        return shutil.which(launch.argv[0], path=path) or launch.argv[0]
    return find_python(path) or sys.executable
