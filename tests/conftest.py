"""Fixtures for all tests: a root of volumes per test, without the settings of the machine's Jupyter."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.pool.pool import Pool, pool_of
from provisioner.settings.pool import VolumePool, load_settings
from tests.support.kernels import MUTE, install
from tests.support.signals import take_back_signals
from tests.support.world import Clock


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root that all processes of a test use; the first pool makes it."""
    for name in list(os.environ):
        if name.startswith(("JUPYTER_", "JPY_", "PYTHONSTARTUP", "IPYTHON")):
            monkeypatch.delenv(name)
    for name in ("config", "data", "runtime", "ipython"):
        (tmp_path / name).mkdir(mode=0o700)
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    root = tmp_path / "volumes"
    monkeypatch.setenv("JUPYTER_VOLUMES_ROOT", str(root))
    return root


@pytest.fixture
def clock() -> Clock:
    """A clock that only the test moves."""
    return Clock()


@pytest.fixture
def pool(root: Path, clock: Clock) -> Iterator[Pool]:
    """A pool over `root`."""
    pool = Pool(VolumePool(root=str(root)), clock)
    yield pool
    pool.close()


def pytest_configure() -> None:
    """Restore signals before any test starts a process."""
    take_back_signals()


@pytest.fixture
def here(root: Path) -> Iterator[Pool]:
    """The pool that all kernels of this process share; the kernelspec `mute` is installed."""
    install("mute", MUTE)
    pool = pool_of(load_settings())
    yield pool
    pool.close()


@pytest.fixture
def another_process(here: Pool) -> Iterator[Pool]:
    """A second pool over the same root, with the view that another process has."""
    pool = Pool(here.settings)
    yield pool
    pool.close()
