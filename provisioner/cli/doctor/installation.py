"""Whether the package is installed where Jupyter looks, on a Python and a platform that it supports."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points, version
from pathlib import Path

from packaging.version import Version

from provisioner.cli.doctor.finding import Finding, Level
from provisioner.cli.doctor.kernelspecs import PROVISIONERS
from provisioner.hydration.kernelspec import PROVISIONER


def check_installation() -> Iterator[Finding]:
    """Yield the findings about Python, jupyter_client, the entry point and the `jupyter` command."""
    message = f"{platform.python_version()} ({sys.executable}) on {platform.system()}"
    if platform.system() in {"Linux", "Darwin"}:
        yield Finding(Level.OK, "Python", message)
    else:
        message = f"{message}, which is not tested"
        yield Finding(Level.WARN, "Python", message, "use Linux or macOS")
    client = version("jupyter_client")
    if Version(client) < Version("8.6"):
        cure = "`pip install -U jupyter_client` (8.6 or newer)"
        yield Finding(Level.BAD, "jupyter_client", f"{client} is too old", cure)
    else:
        yield Finding(Level.OK, "jupyter_client", client)
    yield _entry_point()
    yield _command()


def _entry_point() -> Finding:
    point = next(iter(entry_points(group=PROVISIONERS, name=PROVISIONER)), None)
    cure = "`pip install --force-reinstall jupyter-volumes` into the server's environment"
    if point is None:
        return Finding(Level.BAD, "provisioner", f"Jupyter finds no {PROVISIONER!r}", cure)
    try:
        point.load()
    except Exception as error:  # noqa: BLE001 - an import may raise anything, and then no kernel starts
        message = f"{PROVISIONER!r} cannot be loaded ({type(error).__name__}: {error})"
        return Finding(Level.BAD, "provisioner", message, cure)
    return Finding(Level.OK, "provisioner", f"Jupyter finds {PROVISIONER!r}")


def _command() -> Finding:
    found = shutil.which("jupyter")
    if found is None:
        cure = "activate the environment that has it"
        return Finding(Level.WARN, "jupyter", "the command is not on PATH", cure)
    if not os.path.samefile(Path(found).resolve().parent, Path(sys.executable).parent):
        message = f"{found} belongs to another environment than {sys.executable}"
        cure = "put that environment first on PATH, or install jupyter-volumes there too"
        return Finding(Level.WARN, "jupyter", message, cure)
    return Finding(Level.OK, "jupyter", found)
