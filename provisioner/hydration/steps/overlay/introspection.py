"""Describes the running Python: imported for our own, run by path in any other interpreter.

Standard library only, nothing newer than Python 3.8, and `os.path` throughout: importing `pathlib` or `typing`
would double the time that this takes in another interpreter.
"""

from __future__ import annotations

import json
import os
import site
import sys


def describe() -> dict[str, object]:
    """Describe the running Python, as `LaunchingPython` documents it, in JSON's types."""
    version = sys.version_info
    sites = site.getsitepackages()
    own = [path for path in sites if is_below(path, sys.prefix)] if in_environment() else []
    return {
        "implementation": sys.implementation.name,
        "version": list(version[:3]),
        "library": "python{}.{}{}".format(*version[:2], "t" if "t" in sys.abiflags else ""),
        "platform_library": getattr(sys, "platlibdir", "lib"),
        "executable": sys.executable,
        "base": base_executable(),
        "prefix": sys.prefix,
        "own_sites": own,
        "base_sites": [path for path in sites if path not in own],
        "path": [path for path in sys.path if path],
    }


def in_environment() -> bool:
    """Whether the running Python belongs to a virtual environment."""
    return sys.prefix != sys.base_prefix


def is_below(path: str, directory: str) -> bool:
    """Whether a path is the directory or lies in it."""
    return path == directory or path.startswith(directory.rstrip(os.sep) + os.sep)


def base_executable() -> str:
    """Return the executable of the installation: the one whose directory is `home` in a pyvenv.cfg."""
    base = getattr(sys, "_base_executable", None) or sys.executable
    home = getattr(sys, "_home", None)
    if in_environment() and base == sys.executable and home:
        # Before 3.11, `_base_executable` is the environment's own python.
        base = os.path.join(home, os.path.basename(base))
    for candidate in (base, os.path.realpath(base), os.path.realpath(sys.executable)):
        if os.path.isfile(candidate) and is_below(candidate, sys.base_prefix):
            return candidate
    return base


if __name__ == "__main__":
    print(json.dumps(describe()))  # noqa: T201 - the answer to the calling process
