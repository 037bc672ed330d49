"""Other programs that execute notebooks, without any support for volumes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import Cli, texts, write_notebook

_LEAVE = """
import os
open('left', 'a').write('x')
print(os.environ['JUPYTER_VOLUME_SESSION'], len(open('left').read()))
"""


@pytest.fixture
def notebook(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A notebook that counts its executions in its volume."""
    monkeypatch.setenv("JUPYTER_VOLUME_SESSION", "shared")
    metadata = {"kernelspec": {"name": "python3", "display_name": "", "language": "python"}}
    return write_notebook(tmp_path / "a.ipynb", _LEAVE, **metadata)


def _run(*command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True, text=True, check=False, timeout=120, env=os.environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_other_programs_use_the_volume_of_the_session_in_the_environment(
    cli: Cli, notebook: Path, tmp_path: Path
) -> None:
    output = tmp_path / "papermill.ipynb"

    _run("jupyter", "execute", "--kernel_name=python3-volume", "--inplace", str(notebook))
    executed = texts(notebook)
    _run("papermill", "-k", "python3-volume", "--no-progress-bar", str(notebook), str(output))
    ours = cli("run", notebook, "--inplace")

    assert executed == ["shared 1\n"]
    assert texts(output) == ["shared 2\n"]
    assert ours.code == 0
    assert texts(notebook) == ["shared 3\n"]
    assert [v["session"] for v in cli("list", "--json").json] == ["shared"]
