"""A server's environment and volumes with overlays over it, for the overlay's tests."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import site
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

from provisioner.hydration.step import Launch, Place
from provisioner.hydration.steps.overlay.step import Overlay

_WRITES = {"os.mkdir", "os.rename", "os.remove", "os.symlink", "os.chmod", "open"}
_OURS = ("PYTHON", "PIP_", "UV_", "JUPYTER", "JPY_", "VIRTUAL_ENV", "CONDA", "IPYTHON")


@dataclass(frozen=True)
class Server:
    """The environment that kernels would run in without an overlay."""

    prefix: Path
    wheels: Path
    home: Path

    @property
    def python(self) -> str:
        return str(self.prefix / "bin" / "python")

    @property
    def packages(self) -> Path:
        return self.prefix / site_packages()

    @property
    def env(self) -> dict[str, str]:
        """An environment without any of this machine's settings."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(_OURS)},
            "HOME": str(self.home),
            "PATH": f"{self.prefix}/bin:{os.environ['PATH']}",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            # 0 is the value of `--no-warn-conflicts`: reading the metadata of all packages that these tests run with
            # takes two thirds of each installation.
            "PIP_NO_WARN_CONFLICTS": "0",
        }

    def launch(self, env: Mapping[str, str] | None = None, python: str = "") -> Launch:
        argv = (python or self.python, "-m", "ipykernel_launcher", "-f", "{connection_file}")
        return Launch(argv, {**self.env, **(env or {})})

    def snapshot(self) -> dict[str, object]:
        """Return all files with their sizes and times, without bytecode, which every import may write."""
        found: dict[str, object] = {}
        for path in sorted(self.prefix.rglob("*")):
            if "__pycache__" not in path.parts and not path.is_dir():
                status = path.lstat()
                found[str(path)] = (status.st_size, status.st_mtime_ns, status.st_mode)
        return found


@dataclass
class Volume:
    """A volume with an overlay."""

    path: Path
    launch: Launch
    reported: list[str] = field(default_factory=list)
    overlay: Overlay = field(default_factory=Overlay)
    kernelspec: str = ""

    @property
    def place(self) -> Place:
        (self.path / ".state").mkdir(parents=True, exist_ok=True)
        return Place(self.path, self.path / ".state", kernelspec=self.kernelspec)

    @property
    def root(self) -> Path:
        return self.place.environment

    @property
    def packages(self) -> Path:
        return self.root / site_packages()

    def intact(self) -> bool:
        return self.overlay.intact(self.place, self.launch)

    def hydrate(self, cancel: Event | None = None) -> Volume:
        self.overlay.hydrate(self.place, self.launch, self._tell, cancel or Event())
        return self

    def _tell(self, step: str, message: str, fraction: float | None = None) -> None:
        assert step == "overlay"
        assert fraction is None
        self.reported.append(message)

    def sh(self, command: str, env: Mapping[str, str] | None = None, code: int = 0) -> str:
        """Run a shell command as a kernel's `!command` would, and return all that it printed."""
        launch = self.overlay.environment(self.place, self.launch)
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self.path,
            env={**launch.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def ask(self, expression: str, *imports: str, env: Mapping[str, str] | None = None) -> Any:
        """Return the value of an expression in the volume's Python, through JSON."""
        code = f"import json, {', '.join(('sys', *imports))}; print(json.dumps({expression}))"
        return json.loads(self.sh(shlex.join(["python", "-c", code]), env).splitlines()[-1])

    @contextmanager
    def kernel(self, scratch: Path) -> Iterator[Kernel]:
        """Start a real kernel with the launch that `environment` returns."""
        launch = self.overlay.environment(self.place, self.launch)
        spec = scratch / "overlaid" / "kernel.json"
        spec.parent.mkdir(parents=True, exist_ok=True)
        spec.write_text(
            json.dumps({"argv": launch.argv, "display_name": "Overlaid", "language": "python"})
        )
        specs = KernelSpecManager(kernel_dirs=[str(scratch)], ensure_native_kernel=False)
        manager = KernelManager(kernel_name="overlaid", kernel_spec_manager=specs)
        manager.start_kernel(env=dict(launch.env), cwd=str(self.path))
        try:
            client = manager.blocking_client()
            client.start_channels()
            try:
                client.wait_for_ready(timeout=60)
                yield Kernel(client)
            finally:
                client.stop_channels()
        finally:
            manager.shutdown_kernel(now=True)


@dataclass(frozen=True)
class Kernel:
    """A running kernel."""

    client: BlockingKernelClient

    def run(self, code: str) -> str:
        """Execute a cell; return everything that it printed."""
        printed: list[str] = []

        def collect(message: dict[str, Any]) -> None:
            printed.append(message["content"].get("text", ""))

        reply = self.client.execute_interactive(code, output_hook=collect, timeout=60)
        assert reply["content"]["status"] == "ok", (reply["content"], printed)
        return "".join(printed)


def everything(root: Path) -> dict[str, tuple[int, int]]:
    """Return inode and time of all files but bytecode: they show whether anything was written."""
    paths = (path for path in root.rglob("*") if "__pycache__" not in path.parts)
    found = {str(path): path.lstat() for path in paths}
    return {path: (status.st_ino, status.st_mtime_ns) for path, status in found.items()}


def killed_before(step: int, volume: Volume, *, anew: bool = False) -> bool:
    """Hydrate in a child process that is killed before that change to the disk; return False if it was completed.

    With `anew`, the environment is removed first.
    """
    if anew:
        shutil.rmtree(volume.root)
    child = os.fork()
    if child == 0:
        try:
            seen = -1

            def kill(event: str, arguments: tuple[object, ...]) -> None:
                nonlocal seen
                writes = event != "open" or (isinstance(arguments[1], str) and "x" in arguments[1])
                if event in _WRITES and writes:
                    seen += 1
                    if seen == step:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(kill)
            volume.hydrate()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def site_packages() -> str:
    """Return the directory of packages in a virtual environment of this Python."""
    abi = "t" if "t" in sys.abiflags else ""
    return f"lib/python{sys.version_info.major}.{sys.version_info.minor}{abi}/site-packages"


def our_site_packages() -> list[str]:
    """Return the directories of the packages that these tests run with."""
    users = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    return [path for path in (*users, *site.getsitepackages()) if Path(path).is_dir()]
