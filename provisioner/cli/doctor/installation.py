"""Whether the package is installed where Jupyter looks, on a Python and a platform that can carry it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path

from provisioner.cli.doctor.finding import Finding, Level
from provisioner.cli.kernelspecs.faults import PROVISIONERS
from provisioner.hydration.kernelspec import PROVISIONER

_OLDEST_PYTHON = (3, 10)
_OLDEST_CLIENT = (8, 6)


def check_installation() -> Iterator[Finding]:
    """Yield what is found of Python, jupyter_client, the entry point and the `jupyter` command."""
    yield _python()
    yield _client()
    yield _entry_point()
    yield _command()


def _python() -> Finding:
    said = f"{platform.python_version()} ({sys.executable}) on {platform.system()}"
    if sys.version_info < _OLDEST_PYTHON:
        return Finding(Level.BAD, "Python", said, "use Python 3.10 or newer")
    if platform.system() not in {"Linux", "Darwin"}:
        return Finding(Level.WARN, "Python", f"{said}, which is untried", "use Linux or macOS")
    return Finding(Level.OK, "Python", said)


def _client() -> Finding:
    try:
        installed = version("jupyter_client")
    except PackageNotFoundError:
        return Finding(Level.BAD, "jupyter_client", "not installed", "`pip install jupyter_client`")
    numbers = tuple(int(number) for number in re.findall(r"\d+", installed)[:2])
    if numbers < _OLDEST_CLIENT:
        cure = "`pip install -U jupyter_client` (8.6 or newer)"
        return Finding(Level.BAD, "jupyter_client", f"{installed} is too old", cure)
    return Finding(Level.OK, "jupyter_client", installed)


def _entry_point() -> Finding:
    point = next(iter(entry_points(group=PROVISIONERS, name=PROVISIONER)), None)
    cure = "`pip install --force-reinstall jupyter-volumes` into the server's environment"
    if point is None:
        return Finding(Level.BAD, "provisioner", f"Jupyter finds no {PROVISIONER!r}", cure)
    try:
        point.load()
    except Exception as error:  # noqa: BLE001 - whatever an import raises, no kernel would start
        said = f"{PROVISIONER!r} cannot be loaded ({type(error).__name__}: {error})"
        return Finding(Level.BAD, "provisioner", said, cure)
    return Finding(Level.OK, "provisioner", f"Jupyter finds {PROVISIONER!r}")


def _command() -> Finding:
    found = shutil.which("jupyter")
    if found is None:
        return Finding(
            Level.WARN, "jupyter", "no such command on PATH", "activate the environment it is in"
        )
    if not os.path.samefile(Path(found).resolve().parent, Path(sys.executable).parent):
        return Finding(
            Level.WARN,
            "jupyter",
            f"{found} belongs to another environment than {sys.executable}",
            "put that environment first on PATH, or install jupyter-volumes there too",
        )
    return Finding(Level.OK, "jupyter", found)
