"""Fixtures for tests of the command line."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support.commands import Cli


@pytest.fixture
def cli(root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Calls `jupyter volumes` in this process, with a root of its own and our environment first on PATH."""
    scripts = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", os.pathsep.join((scripts, os.environ["PATH"])))
    return Cli(capsys)


@pytest.fixture
def configuration(root: Path) -> Path:
    """The user's directory of configuration files."""
    return Path(os.environ["JUPYTER_CONFIG_DIR"])


@pytest.fixture
def kernels(root: Path) -> Path:
    """The user's directory of kernelspecs; it does not exist yet."""
    return Path(os.environ["JUPYTER_DATA_DIR"], "kernels")
