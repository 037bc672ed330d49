"""Helpers of the hydration tests: a volume, an environment, recorded progress, a real kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import psutil
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.connect import write_connection_file

from provisioner.core.progress import StepProgress
from provisioner.hydration.runner import Hydrated, hydrate
from provisioner.hydration.step import Launch, Place, Step

_PASSED_ON = ("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_PROCESSES = {"subprocess.Popen", "os.posix_spawn", "os.spawn", "os.fork", "os.exec", "os.system"}
_started: list[str] = []


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event in _PROCESSES:
        _started.append(f"{event} {arguments}")


sys.addaudithook(_note)


def make_place(volume: Path) -> Place:
    (volume / ".state").mkdir(parents=True, mode=0o700)
    return Place(volume.resolve(), volume.resolve() / ".state")


def plain_environment() -> dict[str, str]:
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
    names = {*_PASSED_ON, *(name.lower() for name in _PASSED_ON)}
    return env | {name: value for name, value in os.environ.items() if name in names}


@contextmanager
def processes_started() -> Iterator[list[str]]:
    """Yield a list that has, afterwards, all processes that this interpreter started within."""
    begin = len(_started)
    found: list[str] = []
    yield found
    found += _started[begin:]


@dataclass
class Reported:
    """Records the progress of a hydration."""

    lines: list[str] = field(default_factory=list)

    def __call__(self, step: str, message: str, fraction: float | None = None) -> None:
        self.lines.append(f"{step}: {message}")

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def run(
    steps: Sequence[Step],
    place: Place,
    launch: Launch,
    *,
    progress: StepProgress | None = None,
    cancel: Event | None = None,
    force: bool = False,
) -> Hydrated:
    """Hydrate as a kernel start does."""
    return hydrate(
        steps,
        place,
        launch,
        repeat="jupyter volumes hydrate analysis.ipynb",
        progress=progress or Reported(),
        cancel=cancel or Event(),
        force=force,
    )


def ask_kernel(place: Place, launch: Launch, code: str, connection: Path) -> str:
    """Start the launch as a real kernel, run code in it, and return what it prints."""
    write_connection_file(str(connection), ip="127.0.0.1")
    argv = [word.replace("{connection_file}", str(connection)) for word in launch.argv]
    kernel = subprocess.Popen(argv, env=dict(launch.env), cwd=place.volume, start_new_session=True)
    client = BlockingKernelClient(connection_file=str(connection))
    client.load_connection_file()
    # Without the heartbeat: on a busy machine the client would take one missed beat for the kernel's end.
    client.start_channels(hb=False)
    printed: list[str] = []

    def collect(message: dict[str, Any]) -> None:
        content = message["content"]
        if message["msg_type"] == "stream":
            printed.append(content["text"])
        if message["msg_type"] == "error":
            printed.append("\n".join(content["traceback"]))

    try:
        client.wait_for_ready(timeout=60)
        client.execute_interactive(code, timeout=90, output_hook=collect)
    finally:
        client.stop_channels()
        os.killpg(kernel.pid, signal.SIGKILL)
        kernel.wait()
    return "".join(printed)


def processes_of(mark: str) -> list[str]:
    """Return the command lines of the processes that have a text in their command line or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            words = [*process.cmdline(), *process.environ().values()]
        except psutil.Error:
            continue
        if any(mark in word for word in words):
            found.append(" ".join(process.cmdline()))
    return found
