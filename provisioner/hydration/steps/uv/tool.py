"""The commands of uv: how each is called, and what its failure means."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from provisioner.core.errors import HydrationFailed
from provisioner.hydration.clone import can_reflink
from provisioner.hydration.hooks.process import Ended, run_hook

# They describe some other interpreter than the one that uv is given.
_MISLEADING = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX")


@dataclass(frozen=True)
class Uv:
    """uv as found on a machine, for the hydration of one volume.

    Parameters
    ----------
    program
        The path of `uv`.
    cache
        Its cache, shared by all volumes.
    log, env, tell, cancel
        As `run_hook` takes them, for every call.
    refresh
        Take newer versions than the installed ones.
    """

    program: str
    cache: Path
    log: Path
    env: Mapping[str, str]
    tell: Callable[[str], None]
    cancel: Event
    refresh: bool

    @staticmethod
    def find(path: str) -> str:
        """Return the path of `uv`: of the wheel beside us, or on the PATH.

        Raises
        ------
        HydrationFailed
            There is none.
        """
        try:
            from uv import find_uv_bin

            return find_uv_bin()
        except (ImportError, FileNotFoundError):
            found = shutil.which("uv", path=path)
        if found is None:
            raise HydrationFailed(
                "the kernelspec declares Python requirements, but uv is not installed: "
                "run `pip install uv` in the server's environment"
            )
        return found

    def create(self, python: str, environment: Path) -> None:
        """Make an empty virtual environment whose scripts may be moved with it."""
        arguments = ("venv", "--no-project", "--relocatable", "--python", python, str(environment))
        self._demand(self._run(arguments, Path("/")), "making a virtual environment")

    def install(
        self,
        python: Path,
        requirements: tuple[str, ...],
        directory: Path,
        pins: Iterable[str] = (),
    ) -> None:
        """Install requirements beside what there is, offline first.

        Parameters
        ----------
        python
            The environment's interpreter.
        requirements
            As uv's command line has them.
        directory
            What relative paths begin at, and where uv looks for configuration, upwards.
        pins
            Requirements that whatever is installed has to agree with.
        """
        upgrade = ("--upgrade",) if self.refresh else ()
        constraints, pinned = python.parent.parent / "constraints.txt", tuple[str, ...]()
        if lines := "\n".join(pins):
            constraints.write_text(lines, encoding="utf-8")
            pinned = ("--constraints", str(constraints))
        options = ("--python", str(python), *upgrade, *pinned)
        try:
            self._offline_first(("pip", "install", *options, *requirements), directory)
        finally:
            constraints.unlink(missing_ok=True)

    def sync(self, python: Path, project: Path, *, locked: bool) -> None:
        """Install a project's locked dependencies beside what there is, offline first."""
        lock = ("--locked",) if locked else ()
        self._offline_first(
            ("sync", "--inexact", *lock, "--python", str(python), "--project", str(project)),
            project,
            UV_PROJECT_ENVIRONMENT=str(python.parent.parent),
        )

    def _offline_first(self, arguments: tuple[str, ...], directory: Path, **more: str) -> None:
        """Ask the index only for what the cache does not have: a fifth of a second even for nothing."""
        if not self.refresh:
            offline = self._run((*arguments[:1], "--offline", *arguments[1:]), directory, **more)
            if offline.code == 0:
                return
            self.tell("not all of it is in the cache; asking the package index")
        online = self._run(arguments, directory, **more)
        self._demand(online, f"uv {' '.join(arguments[:2])}")

    def _run(self, arguments: tuple[str, ...], directory: Path, **more: str) -> Ended:
        env = {name: value for name, value in self.env.items() if name not in _MISLEADING}
        env |= {
            "UV_CACHE_DIR": str(self.cache),
            "UV_COMPILE_BYTECODE": "1",
            "UV_NO_PROGRESS": "1",
            "UV_PYTHON_DOWNLOADS": "never",
        }
        return run_hook(
            [self.program, *arguments],
            cwd=directory,
            env={**env, **self._linking(), **more},
            log=self.log,
            tell=self.tell,
            cancel=self.cancel,
        )

    def _linking(self) -> Mapping[str, str]:
        if sys.platform == "darwin":
            return {}  # APFS clones are uv's default there, and better still
        if self.cache.stat().st_dev != self.log.parent.stat().st_dev:
            return {"UV_LINK_MODE": "copy"}
        # Reflinks take a tenth of a second more for 10,000 files, and a file edited in place stays the
        # volume's own. Where there are none, uv's attempt at each file would cost more than the links.
        return {"UV_LINK_MODE": "clone" if can_reflink(self.cache) else "hardlink"}

    @staticmethod
    def _demand(ended: Ended, what: str) -> None:
        if ended.code != 0:
            raise HydrationFailed(f"{what} {ended.how}; correct what it says below", ended.tail)
