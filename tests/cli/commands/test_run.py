from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel

from provisioner.pool.pool import Pool
from provisioner.settings.pool import load_settings
from tests.support.commands import Cli, make_volume, start, texts, wait_for, write_notebook

_SESSION = "import os; print(os.environ['JUPYTER_VOLUME_SESSION'])"
_LEAVE = "open('left', 'a').write('x'); print(len(open('left').read()))"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> Path:
    """A directory for notebooks; it is the working directory."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


def _executed(notebook: Path) -> Path:
    return notebook.with_suffix(".executed.ipynb")


def test_each_notebook_has_the_volume_of_its_own_path(cli: Cli, work: Path) -> None:
    notebooks = [write_notebook(work / name, _SESSION, _LEAVE) for name in ("a.ipynb", "b.ipynb")]

    called = cli("run", "a.ipynb", "b.ipynb", "-j", "2")

    assert called.code == 0, called.err
    assert [texts(_executed(path)) for path in notebooks] == [
        [f"{path}\n", "1\n"] for path in notebooks
    ]
    assert {v["session"] for v in cli("list", "--json").json} == set(map(str, notebooks))
    assert called.out.splitlines()[-1] == "2 notebooks: 2 passed"
    assert "\x1b" not in called.out


@pytest.fixture
def lab_kernel(work: Path) -> Iterator[BlockingKernelClient]:
    """A kernel of work/a.ipynb, started as a server does."""
    env = {**os.environ, "JPY_SESSION_NAME": str(work / "a.ipynb")}
    manager, client = start_new_kernel(kernel_name="python3-volume", env=env)
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def test_a_batch_run_and_the_notebook_in_lab_share_their_files(
    cli: Cli, work: Path, lab_kernel: BlockingKernelClient
) -> None:
    notebook = write_notebook(work / "a.ipynb", "print(open('from_lab').read())")
    lab_kernel.execute("open('from_lab', 'w').write('hello'); 1", reply=True, timeout=30)

    # One process, as in a server: both use the volume at the same time.
    called = cli("run", notebook)

    assert called.code == 0, called.err
    assert texts(_executed(notebook)) == ["hello\n"]


def test_the_error_of_a_cell_is_in_the_output_and_reported_at_the_end(cli: Cli, work: Path) -> None:
    notebook = write_notebook(work / "a.ipynb", "print('one')", "x = 1\n1 / 0", "print('never')")
    make_stale = json.loads(notebook.read_text())
    make_stale["cells"][3]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "old"}]
    notebook.write_text(json.dumps(make_stale))

    called = cli("run", "a.ipynb")

    one, two, three = texts(_executed(notebook))
    assert called.code == 1
    assert one == "one\n"
    assert two.startswith("ZeroDivisionError: division by zero")
    assert "Traceback" in two
    assert three == ""
    assert called.err == "jupyter volumes: a.ipynb: cell 3: ZeroDivisionError: division by zero\n"
    assert "failed, 1 of 3 cells" in called.out
    assert json.loads(notebook.read_text()) == make_stale


def test_notebooks_that_cannot_be_run_are_reported_and_the_others_run(cli: Cli, work: Path) -> None:
    files = {
        "text": b"not JSON",
        "list": b"[]",
        "nocells": b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}',
        "odd": b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{}]}',
        "untyped": b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"source": 1}]}',
        "deep": b"[" * 100_000,
        "netrc": b"machine example.org login me password secret",
        "latin": b'{"cells": "\xe9"}',
    }
    for name, content in files.items():
        (work / f"{name}.ipynb").write_bytes(content)
    write_notebook(work / "r.ipynb", "1", kernelspec={"name": "ir", "language": "R"})
    write_notebook(work / "good.ipynb", "1")
    os.mkfifo(work / "pipe.ipynb")
    (work / "device.ipynb").symlink_to("/dev/zero")
    bad = [*files, "missing", "r", "pipe", "device"]

    called = cli("run", *(f"{name}.ipynb" for name in bad), "good.ipynb", "--json")

    lines = [line for line in called.err.splitlines() if line.startswith("jupyter volumes: ")]
    assert called.code == 1
    assert [o["status"] for o in called.json] == [*(["failed"] * len(bad)), "passed"]
    assert [line.split()[2] for line in lines] == [f"{name}.ipynb:" for name in bad]
    assert "secret" not in called.err + called.out
    assert "pipe.ipynb: is not a file; name a notebook." in called.err
    assert "device.ipynb: is not a file; name a notebook." in called.err
    assert [path.name for path in work.glob("*.executed.ipynb")] == ["good.executed.ipynb"]


def test_json_has_the_outcome_of_each_notebook(cli: Cli, work: Path) -> None:
    write_notebook(work / "a.ipynb", "1", "", "raise ValueError('no\\nsense')")

    called = cli("run", "a.ipynb", "--json")

    (outcome,) = called.json
    assert outcome.pop("took") > 0
    assert outcome == {
        "notebook": str(work / "a.ipynb"),
        "status": "failed",
        "session": str(work / "a.ipynb"),
        "output": str(work / "a.executed.ipynb"),
        "cells": 2,
        "cells_done": 1,
        "failure": {"cell": 4, "error": "ValueError", "message": "no"},
    }
    assert "a.ipynb: started (2 cells)" in called.err


def test_the_volume_of_a_run_is_shared_and_found_by_the_next_run(cli: Cli, work: Path) -> None:
    for name in ("a.ipynb", "b.ipynb"):
        write_notebook(work / name, _SESSION, _LEAVE)

    cli("run", "a.ipynb", "b.ipynb", "--session-per", "run")
    again = cli("run", "b.ipynb", "--session-per", "run", "--output-dir", "results")

    assert again.code == 0
    assert texts(work / "a.executed.ipynb") == [f"run:{work}\n", "1\n"]
    assert texts(work / "results" / "b.ipynb") == [f"run:{work}\n", "3\n"]
    assert len(cli("list", "--json").json) == 1


def test_the_session_is_named_by_flag_environment_and_metadata_in_this_order(
    cli: Cli, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = write_notebook(work / "a.ipynb", _SESSION, volume={"session": "from metadata"})
    cli("run", notebook, "--output-dir", "1")
    cli("run", notebook, "--output-dir", "2", "--session", "from the command line")
    monkeypatch.setenv("JUPYTER_VOLUME_SESSION", "from the environment")
    cli("run", notebook, "--output-dir", "3")
    # Beside JUPYTER_VOLUME, a session in the environment counts as inherited, unless it is requested.
    monkeypatch.setenv("JUPYTER_VOLUME", cli("path", "from the environment").out.strip())
    cli("run", notebook, "--output-dir", "4")
    cli("run", notebook, "--output-dir", "5", "--session", "from the environment")

    said = [texts(work / directory / "a.ipynb")[0].strip() for directory in "12345"]
    assert said == [
        "from metadata",
        "from the command line",
        "from the environment",
        "from metadata",
        "from the environment",
    ]


def test_an_impossible_session_is_refused_before_anything_runs(cli: Cli, work: Path) -> None:
    write_notebook(work / "a.ipynb", "1")

    assert cli("run", "a.ipynb", "--session", "x" * 5000).code == 1
    assert cli("run", "a.ipynb", "--session", "x", "--session-per", "notebook").code == 2
    assert list(work.iterdir()) == [work / "a.ipynb"]


def test_inplace_replaces_the_notebook_and_keeps_its_permissions(cli: Cli, work: Path) -> None:
    notebook = write_notebook(work / "a.ipynb", "6 * 7")
    notebook.chmod(0o640)
    before = notebook.stat().st_ino

    called = cli("run", "a.ipynb", "--inplace")

    assert called.code == 0
    assert texts(notebook) == ["42"]
    assert stat.S_IMODE(notebook.stat().st_mode) == 0o640
    assert notebook.stat().st_ino != before
    assert list(work.iterdir()) == [notebook]


def test_a_cell_that_takes_too_long_fails(cli: Cli, work: Path) -> None:
    notebook = write_notebook(
        work / "a.ipynb", "print('begun', flush=True)\nimport time\ntime.sleep(60)"
    )

    called = cli("run", "a.ipynb", "--timeout", "1s")

    assert called.code == 1
    assert "cell 2: Timeout: the cell ran longer than 1s" in called.err
    assert texts(_executed(notebook))[0].startswith("begun\n")
    assert "Timeout: the cell ran longer than 1s" in texts(_executed(notebook))[0]


def test_a_kernel_that_dies_is_reported_with_its_last_output(cli: Cli, work: Path) -> None:
    last_words = (
        "import faulthandler, sys; faulthandler.enable(sys.__stderr__); faulthandler._sigsegv()"
    )
    notebook = write_notebook(work / "a.ipynb", "print('one')", last_words)

    called = cli("run", "a.ipynb")

    assert called.code == 1
    assert "a.ipynb: cell 3: DeadKernel: the kernel died; it printed:\n" in called.err
    assert "Extension modules: " in called.err
    assert texts(_executed(notebook))[0] == "one\n"
    assert cli("list", "--json").json[0]["state"] == "stopped"


def test_a_volume_that_another_process_holds_is_refused_and_nothing_is_written(
    cli: Cli, work: Path
) -> None:
    notebook = write_notebook(work / "a.ipynb", "1")
    acquired = make_volume(str(notebook))
    holder = start("shell", notebook, "--", "sh", "-c", "touch up; sleep 300")
    wait_for(acquired.path / "up", holder)

    called = cli("run", "a.ipynb", "--inplace")
    os.killpg(holder.pid, 9)
    holder.communicate()

    assert called.code == 1
    assert f"a.ipynb: The volume of session '{notebook}' is in use by shell" in called.err
    assert json.loads(notebook.read_text())["cells"][1]["outputs"] == []


def test_errors_can_be_allowed_and_settings_of_the_command_line_reach_the_kernels(
    cli: Cli, work: Path
) -> None:
    greet = "import os; print(os.environ['GREETING'])"
    notebook = write_notebook(work / "a.ipynb", "1 / 0", greet)

    called = cli("run", "a.ipynb", "--allow-errors", "--VolumePool.env=GREETING=hello")

    assert called.code == 0, called.err
    assert texts(_executed(notebook))[1] == "hello\n"


def test_a_notebook_without_code_passes_and_its_lease_is_free_afterwards(
    cli: Cli, work: Path
) -> None:
    notebook = write_notebook(work / "a.ipynb")

    assert cli("run", "a.ipynb", "--startup-timeout", "never").code == 0
    pool = Pool(load_settings())
    pool.release(pool.acquire(str(notebook), "python3-volume", kernel="next"))
