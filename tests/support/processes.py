"""Other processes for tests: Python scripts that a test starts, talks to by lines, and always ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

_PROJECT = Path(__file__).parents[2]


@contextlib.contextmanager
def running(
    script: str, *arguments: str, pass_fds: tuple[int, ...] = (), env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run a Python script in a process of its own, and kill it at the end if it still runs.

    The script prints lines, flushed, and reads lines from its standard input.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=pass_fds,
        env={**os.environ, "PYTHONPATH": str(_PROJECT), **(env or {})},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def low_priority_children(pid: int) -> list[psutil.Process]:
    """Return the child processes in which a process sweeps or backs up."""
    found = []
    for child in psutil.Process(pid).children():
        with contextlib.suppress(psutil.Error):
            if "low_priority" in str(child.cmdline()):
                found.append(child)
    return found


def is_gone(process: psutil.Process) -> bool:
    """Whether a process has ended; in a container without an init, nobody may reap an orphan."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def line_of(process: subprocess.Popen[str]) -> str:
    """Return the next line that a process prints; empty if it has ended."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str], line: str = "") -> None:
    """Send a line to a process."""
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def kill(process: subprocess.Popen[str]) -> None:
    """Send SIGKILL to a process and wait until it has ended."""
    process.send_signal(signal.SIGKILL)
    process.wait()
