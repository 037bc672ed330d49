"""Commands whose standard streams are closed or full, or whose input does not confirm."""

from __future__ import annotations

import json
import os
import pty
import shlex
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import COMMAND, make_volume

pytestmark = pytest.mark.usefixtures("root")

_CLOSED = ("<&-", ">&-", "2>&-", "<&- >&- 2>&-")


def _shell(line: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a line of the shell, in which `jv` stands for the command."""
    whole = line.replace("jv", shlex.join(COMMAND), 1)
    # With unbuffered streams, the output is lost before the command can find out why it was not written.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        ["sh", "-c", whole],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=env,
        **options,
    )


def _shells(*lines: str) -> Iterator[tuple[str, subprocess.CompletedProcess[str]]]:
    """Run several lines at the same time; yields each line with its result."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        yield from zip(lines, threads.map(_shell, lines), strict=True)


@pytest.mark.parametrize("command", ["list", "list --json", "doctor", "--help", "path a"])
def test_commands_work_with_closed_streams(command: str) -> None:
    make_volume("a")

    for line, done in _shells(*(f"jv {command} {closed}" for closed in _CLOSED)):
        assert (done.returncode, done.stderr) == (0, ""), line


@pytest.mark.parametrize("closed", _CLOSED)
def test_no_file_is_opened_as_a_closed_stream(closed: str) -> None:
    path = make_volume("a").path
    look = (
        "import os, json; null = os.stat(os.devnull).st_rdev; "
        "json.dump([os.fstat(n).st_rdev == null for n in range(3)], open('streams', 'w'))"
    )
    line = shlex.join(("shell", "a", "--", sys.executable, "-c", look))

    done = _shell(f"jv {line} {closed}", stdin=subprocess.PIPE)

    assert done.returncode == 0
    streams = ("<&-" in closed.split(), ">&-" in closed.split(), "2>&-" in closed.split())
    assert json.loads((path / "streams").read_text()) == list(streams)


def test_output_that_cannot_be_written_is_reported_in_one_line() -> None:
    make_volume("a")
    commands = ("list", "list --json", "doctor", "--help", "path a", "run no")

    for line, done in _shells(*(f"jv {command} > /dev/full" for command in commands)):
        assert done.returncode == 1, line
        assert done.stderr == (
            "jupyter volumes: The output cannot be written (No space left on device); send it elsewhere.\n"
        ), line


def test_a_failure_is_reported_even_if_the_output_cannot_be_written() -> None:
    assert "No volume has the session 'no'" in _shell("jv show no > /dev/full").stderr


@pytest.mark.parametrize("typed", ["\x04", "wrong\n", "\n"])
def test_nothing_is_deleted_unless_the_name_is_typed(typed: str) -> None:
    path = make_volume("a", file="content").path
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "prune", "a", "--force"],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    os.write(ours, typed.encode())
    _, said = process.communicate(timeout=60)
    os.close(ours)

    assert process.returncode == 1
    assert said == "jupyter volumes: That is not the session's name; nothing was deleted.\n"
    assert (path / "file").read_text() == "content"


def test_a_deleted_working_directory_is_reported(tmp_path: Path) -> None:
    notebook = tmp_path / "a.ipynb"
    notebook.write_text("{}")
    commands = (
        f"run {notebook}",
        "run a.ipynb",
        "kernelspec add x --from python3 --pyproject .",
        "list",
    )
    gone = [tmp_path / f"gone-{number}" for number in range(len(commands))]
    lines = (
        f"mkdir {directory}; cd {directory}; rmdir {directory}; jv {command}"
        for directory, command in zip(gone, commands, strict=True)
    )

    *refused, (_, listed) = _shells(*lines)

    for line, done in refused:
        assert done.returncode == 1, line
        assert "The current directory does not exist any more" in done.stderr, line
        assert done.stderr.count("\n") == 1, line
    assert listed.returncode == 0
