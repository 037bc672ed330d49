"""Commands whose standard streams are closed, full, or have nobody at the other end."""

from __future__ import annotations

import json
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import COMMAND, make_volume

pytestmark = pytest.mark.usefixtures("root")

_CLOSED = ("<&-", ">&-", "2>&-", "<&- >&- 2>&-")


def _shell(line: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a line of the shell in which `jv` stands for the command."""
    whole = line.replace("jv", shlex.join(COMMAND), 1)
    # Unbuffered, what could not be written is not there any more when the reason is asked for.
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


@pytest.mark.parametrize("closed", _CLOSED)
@pytest.mark.parametrize("command", ["list", "list --json", "doctor", "--help", "path a"])
def test_a_stream_that_is_closed_keeps_nothing_from_being_done(command: str, closed: str) -> None:
    make_volume("a")

    done = _shell(f"jv {command} {closed}")

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", _CLOSED)
def test_no_file_of_ours_takes_the_place_of_a_closed_stream(closed: str) -> None:
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


@pytest.mark.parametrize("command", ["list", "list --json", "doctor", "--help", "path a", "run no"])
def test_output_that_cannot_be_written_is_told_in_one_line(command: str) -> None:
    make_volume("a")

    done = _shell(f"jv {command} > /dev/full")

    assert done.returncode == 1
    assert done.stderr == (
        "jupyter volumes: The output cannot be written (No space left on device); send it elsewhere.\n"
    )


def test_a_failure_is_told_even_where_the_output_cannot_be_written() -> None:
    assert "No volume has the session 'no'" in _shell("jv show no > /dev/full").stderr


@pytest.mark.parametrize("typed", ["\x04", "wrong\n", "\n"])
def test_whoever_does_not_type_the_name_deletes_nothing(typed: str) -> None:
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


def test_a_directory_that_is_gone_is_told(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    notebook = tmp_path / "a.ipynb"
    notebook.write_text("{}")
    for asked in (
        f"run {notebook}",
        "run a.ipynb",
        "kernelspec add x --from python3 --pyproject .",
    ):
        done = _shell(f"mkdir -p {gone}; cd {gone}; rmdir {gone}; jv {asked}")

        assert done.returncode == 1
        assert "The current directory does not exist any more" in done.stderr
        assert done.stderr.count("\n") == 1
    assert _shell(f"mkdir -p {gone}; cd {gone}; rmdir {gone}; jv list").returncode == 0
