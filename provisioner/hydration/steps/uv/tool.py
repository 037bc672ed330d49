"""The commands of uv: how each is called, and what its failure means."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from provisioner.core.errors import HydrationFailed
from provisioner.hydration.hooks.process import Ended, StepHooks
from provisioner.hydration.steps.uv.clone import can_reflink

# They describe another interpreter than the one that uv is given.
_MISLEADING = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX")


@dataclass(frozen=True)
class Uv:
    """uv as found on a machine, for the hydration of one volume.

    Where the place of `hooks` asks for a refresh, newer versions than the installed ones are taken. All volumes
    share the `cache`.
    """

    program: str
    hooks: StepHooks
    env: Mapping[str, str]
    cache: Path

    @classmethod
    def find(cls, hooks: StepHooks, env: Mapping[str, str], cache: Path) -> Uv:
        """Find `uv`: of the wheel in this environment, or on the PATH; raises HydrationFailed if there is none."""
        try:
            from uv import find_uv_bin

            found: str | None = find_uv_bin()
        except (ImportError, FileNotFoundError):
            found = shutil.which("uv", path=env.get("PATH", ""))
        if found is None:
            raise HydrationFailed(
                "the kernelspec declares Python requirements, but uv is not installed: "
                "run `pip install uv` in the server's environment"
            )
        return cls(found, hooks, env, cache)

    def create(self, python: str, environment: Path) -> None:
        """Make an empty virtual environment whose scripts may be moved with it."""
        arguments = ("venv", "--no-project", "--relocatable", "--python", python, str(environment))
        _require_success(self._run(arguments, Path("/")), "making a virtual environment")

    def install(
        self, python: Path, requirements: tuple[str, ...], directory: Path, pins: Iterable[str] = ()
    ) -> None:
        """Install requirements, as uv's command line has them, in addition to what is installed; offline first.

        Relative paths start at `directory`, and uv looks for configuration from there upwards. With `pins`, everything
        installed has to agree with these requirements.
        """
        upgrade = ("--upgrade",) if self.hooks.place.refresh else ()
        options: tuple[str, ...] = ("--python", str(python), *upgrade)
        constraints = python.parent.parent / "constraints.txt"
        if lines := "\n".join(pins):
            constraints.write_text(lines, encoding="utf-8")
            options += ("--constraints", str(constraints))
        try:
            self._offline_first(("pip", "install", *options, *requirements), directory)
        finally:
            constraints.unlink(missing_ok=True)

    def sync(self, python: Path, project: Path, *, locked: bool) -> None:
        """Install a project's locked dependencies in addition to what is installed, offline first."""
        lock = ("--locked",) if locked else ()
        self._offline_first(
            ("sync", "--inexact", *lock, "--python", str(python), "--project", str(project)),
            project,
            UV_PROJECT_ENVIRONMENT=str(python.parent.parent),
        )

    def _offline_first(self, arguments: tuple[str, ...], directory: Path, **more: str) -> None:
        """Ask the package index only for what the cache lacks: that takes a fifth of a second even for nothing."""
        if not self.hooks.place.refresh:
            offline = self._run((*arguments[:1], "--offline", *arguments[1:]), directory, **more)
            if offline.code == 0:
                return
            self.hooks.report("not all of it is in the cache; asking the package index")
        online = self._run(arguments, directory, **more)
        _require_success(online, f"uv {' '.join(arguments[:2])}")

    def _run(self, arguments: tuple[str, ...], directory: Path, **more: str) -> Ended:
        env = {name: value for name, value in self.env.items() if name not in _MISLEADING}
        env |= {
            "UV_CACHE_DIR": str(self.cache),
            "UV_COMPILE_BYTECODE": "1",
            "UV_NO_PROGRESS": "1",
            "UV_PYTHON_DOWNLOADS": "never",
        }
        return self.hooks.run(
            [self.program, *arguments], {**env, **self._link_mode(), **more}, cwd=directory
        )

    def _link_mode(self) -> Mapping[str, str]:
        if sys.platform == "darwin":
            return {}  # APFS clones, uv's default there, are better still
        if self.cache.stat().st_dev != self.hooks.place.state.stat().st_dev:
            return {"UV_LINK_MODE": "copy"}
        # Reflinks take a tenth of a second more for 10,000 files, and a file that is edited in place changes in
        # this volume only. Without them, uv's attempt at each file would cost more than the hard links.
        return {"UV_LINK_MODE": "clone" if can_reflink(self.cache) else "hardlink"}


def _require_success(ended: Ended, what: str) -> None:
    if ended.code != 0:
        raise HydrationFailed(f"{what} {ended.how}; correct what it says below", ended.tail)
