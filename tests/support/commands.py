"""Calls `jupyter volumes` in this process, or starts it in one of its own; writes and reads notebooks."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from provisioner.cli.app import run
from provisioner.pool.kernels import Acquired
from provisioner.pool.pool import Pool
from provisioner.settings.pool import load_settings

COMMAND = (sys.executable, "-c", "import sys; from provisioner.cli import main; sys.exit(main())")


@dataclass(frozen=True)
class Called:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def refusal(self) -> str:
        """The one line that says why the command failed."""
        assert (self.code, self.err.count("\n")) == (1, 1), self.err
        return self.err


class Cli:
    """Calls commands in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str | Path) -> Called:
        self._capsys.readouterr()
        try:
            code = run([str(argument) for argument in arguments])
        except SystemExit as stopped:  # raised by argparse after a refusal or the help
            code = int(stopped.code or 0)
        captured = self._capsys.readouterr()
        return Called(code, captured.out, captured.err)


def start(*arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
    """Start a command in a process and a process group of its own, as a terminal does."""
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def make_volume(session: str, **files: str) -> Acquired:
    """Make a stopped volume with some files, as an earlier process leaves it."""
    pool = Pool(load_settings())
    acquired = pool.acquire(session, "python3-volume", kernel="earlier")
    for name, content in files.items():
        (acquired.path / name).write_text(content)
    pool.release(acquired)
    pool.close()
    return acquired


def write_kernelspec(directory: Path, config: object = None, **content: Any) -> Path:
    """Write a kernel.json, which gives volumes if `config` are their options; `content` replaces its parts."""
    stanza = {"provisioner_name": "volume-provisioner", "config": config}
    metadata = {} if config is None else {"kernel_provisioner": stanza}
    own = {"argv": ["python"], "display_name": "", "language": "", "metadata": metadata}
    directory.mkdir(parents=True)
    path = directory / "kernel.json"
    path.write_text(json.dumps({**own, **content}))
    return path


def write_notebook(path: Path, *cells: str, **metadata: Any) -> Path:
    """Write a notebook with a heading and these code cells."""
    heading: dict[str, Any] = {"cell_type": "markdown", "metadata": {}, "source": "# A test"}
    code = {**heading, "cell_type": "code", "execution_count": None, "outputs": []}
    numbered = [heading, *({**code, "source": source} for source in cells)]
    content = {
        "cells": [{**cell, "id": f"cell-{number}"} for number, cell in enumerate(numbered)],
        "metadata": metadata,
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path.write_text(json.dumps(content))
    return path


def texts(path: Path) -> list[str]:
    """Return the text that each code cell of an executed notebook printed or raised."""
    cells = json.loads(path.read_text())["cells"]
    return [
        "".join(_text(output) for output in cell["outputs"])
        for cell in cells
        if cell["cell_type"] == "code"
    ]


def _text(output: dict[str, Any]) -> str:
    if output["output_type"] == "error":
        return f"{output['ename']}: {output['evalue']}\n" + "\n".join(output["traceback"])
    return "".join(output.get("text") or output["data"]["text/plain"])


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a process has made a file."""
    wait_until(lambda: path.exists() or process.poll() is not None)
    assert path.exists(), process.communicate()


def wait_until(condition: Callable[[], bool], seconds: float = 90) -> None:
    """Wait until another process has made a condition true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
