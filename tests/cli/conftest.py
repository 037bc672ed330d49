"""The command line for tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support.commands import Cli


@pytest.fixture
def cli(root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Calls `jupyter volumes` in this process, on a root of the test's own; `jupyter` is found in our environment."""
    scripts = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", os.pathsep.join((scripts, os.environ["PATH"])))
    return Cli(capsys)


@pytest.fixture
def configuration(root: Path) -> Path:
    """Where the user's settings lie."""
    return Path(os.environ["JUPYTER_CONFIG_DIR"])


@pytest.fixture
def kernels(root: Path) -> Path:
    """Where the user's kernelspecs lie; not made yet."""
    return Path(os.environ["JUPYTER_DATA_DIR"], "kernels")
