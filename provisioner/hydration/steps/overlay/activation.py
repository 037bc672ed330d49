"""Changes a kernel's command line and environment so that it runs in an overlay."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from provisioner.hydration.step import Launch
from provisioner.hydration.steps.overlay.launching import LaunchingPython
from provisioner.hydration.steps.overlay.layout import SHIMS

# These direct a Python, a pip or a uv to another environment than the one that it is started in.
_MISLEADING = frozenset(
    {
        "PYTHONEXECUTABLE", "PYTHONHOME", "__PYVENV_LAUNCHER__", "VIRTUAL_ENV_PROMPT",
        "PIP_PREFIX", "PIP_PYTHON", "PIP_ROOT", "PIP_TARGET",
        "UV_PROJECT_ENVIRONMENT", "UV_PYTHON", "UV_SYSTEM_PYTHON",
    }
)  # fmt: skip
# Jupyter searches these by itself, after the user's own; named in a variable they would come before.
_SEARCHED_ANYWAY = frozenset(
    {"/usr/local/share/jupyter", "/usr/share/jupyter", "/usr/local/etc/jupyter", "/etc/jupyter"}
)


def activate(launch: Launch, root: Path, python: LaunchingPython, executable: str) -> Launch:
    """Return a launch that runs in the overlay.

    Parameters
    ----------
    launch
        The launch without an overlay.
    root
        The overlay's root.
    python
        The Python below it.
    executable
        That Python's path in the launch.
    """
    env = {name: value for name, value in launch.env.items() if name not in _MISLEADING}
    programs = env.get("PATH", os.defpath).split(os.pathsep)
    beside = str(Path(executable).parent)
    env["PATH"] = _joined(
        root / "bin", root / SHIMS, *([] if beside in programs else [beside]), *programs
    )
    env["VIRTUAL_ENV"] = str(root)
    # A pip.conf may ask for `--user`, as on clusters; a virtual environment's pip then refuses to install.
    env["PIP_USER"] = "0"
    # Jupyter searches below sys.prefix, which is now in the volume.
    env["JUPYTER_PATH"] = _searched(env, "JUPYTER_PATH", root, python, "share/jupyter")
    env["JUPYTER_CONFIG_PATH"] = _searched(env, "JUPYTER_CONFIG_PATH", root, python, "etc/jupyter")
    return replace(launch, argv=(str(root / "bin" / "python"), *launch.argv[1:]), env=env)


def _searched(
    env: Mapping[str, str], name: str, root: Path, python: LaunchingPython, directory: str
) -> str:
    launching = str(Path(python.prefix) / directory)
    given = [path for path in env.get(name, "").split(os.pathsep) if path]
    return _joined(root / directory, *given, *({launching} - _SEARCHED_ANYWAY))


def _joined(*paths: str | Path) -> str:
    return os.pathsep.join(dict.fromkeys(map(str, paths)))
