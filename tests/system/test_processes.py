"""Who lives in a volume."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from provisioner.core.session import VOLUME_VARIABLE
from provisioner.system import processes as module
from provisioner.system.processes import occupants, wait_until_gone
from tests.support.processes import kill, line_of, running

LIVE = "print('up', flush=True); input()"


@pytest.fixture(params=["by hand", "by psutil"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of looking: that of Linux, and that of systems without /proc."""
    if request.param == "by psutil":
        monkeypatch.setattr(module, "_PROC", Path("/nonexistent"))
    return str(request.param)


def test_whoever_has_a_volume_in_its_environment_lives_there(way: str, tmp_path: Path) -> None:
    volume = tmp_path / "v1-ab"
    with (
        running(LIVE, env={VOLUME_VARIABLE: str(volume)}) as inside,
        running(LIVE, env={VOLUME_VARIABLE: f"{volume}c"}) as neighbour,
        running(LIVE, env={f"MY_{VOLUME_VARIABLE}": str(volume)}) as stranger,
    ):
        for process in (inside, neighbour, stranger):
            assert line_of(process) == "up"
        found = occupants(volume)
        assert [process.pid for process in found] == [inside.pid]
        assert wait_until_gone(found, 0.05) == found
        kill(inside)
        assert wait_until_gone(found, 20) == []
        assert occupants(volume) == []


def test_the_dead_and_whoever_looks_do_not_live_there(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VOLUME_VARIABLE, str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert occupants(tmp_path) == [], (
        "a process that has ended, but was not waited for, holds nothing"
    )
    process.wait()


def test_a_path_that_is_no_text_is_found_too(way: str, tmp_path: Path) -> None:
    volume = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    with running(LIVE, env={VOLUME_VARIABLE: str(volume)}) as inside:
        assert line_of(inside) == "up"
        assert [process.pid for process in occupants(volume)] == [inside.pid]
