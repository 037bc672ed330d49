"""The overlay step: a private `sys.prefix` over the packages of the launching environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import ClassVar, Literal

from provisioner.core.errors import HydrationFailed
from provisioner.core.progress import StepProgress
from provisioner.hydration.hooks.process import StepHooks
from provisioner.hydration.records import digest, digest_text
from provisioner.hydration.step import Launch, Place
from provisioner.hydration.steps.overlay import launching
from provisioner.hydration.steps.overlay.introspection import is_below
from provisioner.hydration.steps.overlay.launching import LaunchingPython
from provisioner.hydration.steps.overlay.layout import (
    SHIMS,
    File,
    Piece,
    layout,
    outdated,
    packages,
)
from provisioner.hydration.steps.python.interpreter import check_version, runs_python
from provisioner.hydration.steps.python.owners import OWNER_FILE, Owner, choose, names, owner_of
from provisioner.hydration.steps.python.scripts import correct_scripts

_SCHEMA = "1"
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


@dataclass(frozen=True)
class Overlay:
    """Lays a virtual environment of the volume over the one that the kernel would run in.

    It sees every package of the launching environment. Packages that are installed go into the volume, and hide
    those of the same name in the launching environment. Nothing is copied and, for our own interpreter, no process
    is started. Kernels whose program is no Python are left unchanged.

    Each Python whose kernels share the volume has its own overlay, because the interpreter of a running kernel must
    not be exchanged. A Python that has moved or was upgraded keeps its overlay.

    The overlay is not trusted: at each start every piece is compared with what it should be for the interpreter
    and the volume's path of today. What the user installed is not touched, except that the first lines of console
    scripts are corrected when the volume moves.
    """

    name: ClassVar[str] = "overlay"
    lasts: ClassVar[Literal[True]] = True  # each Python has its own overlay

    requires_python: str | None = None

    def inputs(self, place: Place, launch: Launch) -> Mapping[str, str]:
        """Digest what determines the interpreter's description; fails if there is no interpreter."""
        if not _applies(launch):
            return {}
        found = launching.inputs(launching.find(launch))
        if self.requires_python is not None:
            found["requires-python"] = digest_text(self.requires_python)
        return found

    def key(self, place: Place, launch: Launch) -> str:
        """Digest the interpreter and the required version; fails as `inputs` does."""
        return digest({"schema": _SCHEMA, **self.inputs(place, launch)})

    def intact(self, place: Place, launch: Launch) -> bool:
        """Compare each piece with what it should be."""
        if not _applies(launch):
            return True
        executable = launching.find(launch)
        python = launching.known(place, executable)
        if python is None or _is_below_volume(python, place):
            return False
        here = choose(place, self.name, executable)
        return all(piece.fits(here.environment) for piece in self._pieces(python, here, executable))

    def hydrate(self, place: Place, launch: Launch, progress: StepProgress, cancel: Event) -> None:
        """Write each piece that is missing or wrong, atomically; after a kill, it is simply called again."""
        if not _applies(launch):
            return
        hooks = StepHooks(self.name, place, progress, cancel)
        self._write(self._python(launch, hooks), launching.find(launch), hooks)

    def environment(self, place: Place, launch: Launch) -> Launch:
        """Return the launch with the overlay's interpreter, and with all search paths directed to the overlay."""
        if not _applies(launch):
            return launch
        executable = launching.find(launch)
        python = launching.known(place, executable)
        if python is None:
            raise HydrationFailed(
                f"no environment in {place.state} was made for {executable}: start the kernel again"
            )
        here = choose(place, self.name, executable)
        return _activated(launch, here.environment, python, executable)

    def _python(self, launch: Launch, hooks: StepHooks) -> LaunchingPython:
        """Return the description of the interpreter, or refuse one that the overlay cannot lie over."""
        executable = launching.find(launch)
        python = None if hooks.place.refresh else launching.known(hooks.place, executable)
        if python is None:
            hooks.report(f"asking {executable} what it looks like")
            python = launching.ask(launch, executable, hooks)
        check_version(self.requires_python, ".".join(map(str, python.version)))
        if _is_below_volume(python, hooks.place):
            raise HydrationFailed(
                f"the kernel's interpreter {executable} runs on this very volume's environment: start the "
                "server from another environment, or name another interpreter in kernel.json"
            )
        return python

    def _write(self, python: LaunchingPython, executable: str, hooks: StepHooks) -> None:
        here = choose(hooks.place, self.name, executable)
        root = here.environment
        if not (root / packages(python)).is_dir():
            self._report_lost_packages(python, executable, here, hooks)
        pieces = self._pieces(python, here, executable)
        for directory in sorted({(root / piece.path).parent for piece in pieces}):
            directory.mkdir(parents=True, exist_ok=True)
        for path in outdated(pieces, root):
            path.unlink()
        # Before the shims: these contain the path too, so a crash before they are written repeats this.
        correct_scripts(root, root)
        for piece in pieces:
            if not piece.fits(root):
                piece.write(root)

    def _pieces(self, python: LaunchingPython, here: Place, executable: str) -> list[Piece]:
        """Return all pieces in the order in which they must be written; the owner's file comes first."""
        owner = owner_of(here, self.name, executable)
        return [File(OWNER_FILE, owner.to_json()), *layout(python, here.environment)]

    def _report_lost_packages(
        self, python: LaunchingPython, executable: str, here: Place, hooks: StepHooks
    ) -> None:
        """Report the command that installs the packages of another Python for this one, if there are any."""
        found = {path: Owner.read(path) for path in (here.state / name for name in names(here))}
        overlays = (path for path, owner in found.items() if owner and owner.maker == self.name)
        roots = [path for path in (here.environment, *overlays) if (path / "lib").is_dir()]
        if not roots:
            return
        # Imported here: it is rarely needed, and would double the time of every overlay.
        from provisioner.hydration.steps.python.packages import packages_to_install_again

        if lost := next(filter(None, map(packages_to_install_again, roots)), ""):
            hooks.report(
                f"this kernel runs on {executable} ({python.library}), and the volume's packages are for another "
                f"Python; for them, run: %pip install {lost}",
            )


def _applies(launch: Launch) -> bool:
    return bool(launch.argv) and runs_python(launch)


def _is_below_volume(python: LaunchingPython, place: Place) -> bool:
    """Whether a Python gets packages from an environment of this volume: an overlay over itself would never end."""
    environments = [str(place.state / name) for name in names(place)]
    return any(is_below(path, environment) for path in python.path for environment in environments)


def _activated(launch: Launch, root: Path, python: LaunchingPython, executable: str) -> Launch:
    """Return a launch that runs in the overlay at `root` over a Python, whose path in the launch is `executable`."""
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
