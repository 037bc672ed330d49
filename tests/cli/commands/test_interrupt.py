"""A run that a signal ends: no kernel, no lease and no partial file remains."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.support.commands import COMMAND, Cli, start, texts, wait_for, wait_until, write_notebook

_SLOW = """
print('begun', flush=True)
import os, pathlib, time
try:
    pathlib.Path(os.environ['UP']).touch()
    time.sleep(300)
finally:
    pathlib.Path('cleaned').touch()
"""

_DEAF = """
print('begun', flush=True)
import os, pathlib, signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
pathlib.Path(os.environ['UP']).touch()
time.sleep(300)
"""


@pytest.fixture
def up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that a notebook makes as soon as its cell runs."""
    monkeypatch.setenv("UP", str(tmp_path / "up"))
    return tmp_path / "up"


@pytest.fixture
def slow(tmp_path: Path, cli: Cli) -> Path:
    """A notebook that runs for minutes."""
    return write_notebook(tmp_path / "slow.ipynb", _SLOW, "print('never')")


def _kernels(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def _start_slow(directory: Path) -> subprocess.Popen[str]:
    """Start a run of a slow notebook and a later one, in a directory of their own."""
    directory.mkdir()
    slow = write_notebook(directory / "slow.ipynb", _SLOW, "print('never')")
    later = write_notebook(directory / "later.ipynb", "1")
    return start("run", slow, later, env={**os.environ, "UP": str(directory / "up")})


def test_a_signal_ends_kernels_frees_leases_and_writes_partial_notebooks(
    cli: Cli, tmp_path: Path
) -> None:
    # Started together, since each start takes seconds.
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    runs = {number: _start_slow(tmp_path / number.name) for number in numbers}
    try:
        for number, process in runs.items():
            _assert_ends(cli, process, number, tmp_path / number.name)
    finally:
        for process in runs.values():
            process.kill()


def _assert_ends(
    cli: Cli, process: subprocess.Popen[str], number: signal.Signals, directory: Path
) -> None:
    wait_for(directory / "up", process)
    kernels = _kernels(process)

    process.send_signal(number)
    out, err = process.communicate(timeout=30)

    assert process.returncode == 128 + number
    assert len(kernels) >= 1
    assert psutil.wait_procs(kernels, timeout=0)[1] == []
    assert cli("show", directory / "slow.ipynb", "--json").json["holder"] is None
    assert cli("shell", directory / "slow.ipynb", "--", "test", "-e", "cleaned").code == 0
    first, second = texts(directory / "slow.executed.ipynb")
    assert first.startswith("begun\nKeyboardInterrupt")
    assert second == ""
    assert "later.ipynb: not run" in out
    assert "Traceback" not in err
    assert not (directory / "later.executed.ipynb").exists()
    assert not list(directory.glob(".*.tmp"))


def test_a_cell_that_ignores_interrupts_is_ended_with_its_kernel(
    cli: Cli, up: Path, tmp_path: Path
) -> None:
    notebook = write_notebook(tmp_path / "deaf.ipynb", _DEAF)
    process = start("run", notebook)
    wait_for(up, process)
    kernels = _kernels(process)

    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)

    assert process.returncode == 130
    assert psutil.wait_procs(kernels, timeout=0)[1] == []
    assert texts(tmp_path / "deaf.executed.ipynb") == ["begun\n"]


def test_a_kernel_that_is_starting_is_ended_too(cli: Cli, slow: Path, tmp_path: Path) -> None:
    process = start("run", slow)
    assert process.stdout is not None
    assert process.stdout.readline() == f"{slow}: started (2 cells)\n"

    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)

    assert process.returncode == 130
    assert [v["holder"] for v in cli("list", "--json").json] in ([], [None])


@pytest.mark.usefixtures("cli")
def test_signals_that_nohup_ignores_stay_ignored(tmp_path: Path) -> None:
    notebook = write_notebook(
        tmp_path / "a.ipynb", "import os, signal; os.kill(int(os.environ['RUN']), signal.SIGHUP)"
    )
    script = 'trap "" HUP; RUN=$$; export RUN; exec "$@"'

    done = subprocess.run(
        ["sh", "-c", script, "sh", *COMMAND, "run", str(notebook)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr


def test_a_terminal_shows_bars_and_its_ctrl_c_ends_the_run(slow: Path, up: Path) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.execvpe(COMMAND[0], [*COMMAND, "run", str(slow)], {**os.environ, "TERM": "xterm"})
    wait_until(up.exists)
    os.write(terminal, b"\x03")
    shown = _read_all(terminal)
    os.close(terminal)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 130
    assert "━" in shown
    assert "interrupted, 0 of 2 cells" in shown
    assert "Traceback" not in shown


def _read_all(terminal: int) -> str:
    shown = b""
    while True:
        try:
            read = os.read(terminal, 65536)
        except OSError:  # how Linux reports the end of a terminal whose other side is closed
            read = b""
        if not read:
            return shown.decode()
        shown += read
