"""The processes that use a volume."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from provisioner.core.session import VOLUME_VARIABLE
from provisioner.system import processes as module
from provisioner.system.processes import (
    processes_of,
    processes_working_in,
    volumes_with_processes,
    wait_until_gone,
)
from tests.support.processes import kill, line_of, running

LIVE = "print('up', flush=True); input()"


@pytest.fixture(params=["by hand", "by psutil"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to read processes: that of Linux, and that of systems without /proc."""
    if request.param == "by psutil":
        monkeypatch.setattr(module, "_PROC", Path("/nonexistent"))
    return str(request.param)


def test_a_process_whose_environment_names_a_volume_is_found(way: str, tmp_path: Path) -> None:
    volume = tmp_path / "v1-ab"
    with (
        running(LIVE, env={VOLUME_VARIABLE: str(volume)}) as inside,
        running(LIVE, env={VOLUME_VARIABLE: f"{volume}c"}) as neighbour,
        running(LIVE, env={f"MY_{VOLUME_VARIABLE}": str(volume)}) as stranger,
    ):
        for process in (inside, neighbour, stranger):
            assert line_of(process) == "up"
        found = processes_of(volume)
        assert [process.pid for process in found] == [inside.pid]
        volumes = volumes_with_processes()
        assert volumes[str(volume)] == (inside.pid,)
        assert volumes[f"{volume}c"] == (neighbour.pid,)
        assert wait_until_gone(found, 0.05) == found
        kill(inside)
        assert wait_until_gone(found, 20) == []
        assert processes_of(volume) == []


def test_an_ended_process_and_this_process_are_not_found(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VOLUME_VARIABLE, str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert processes_of(tmp_path) == [], (
        "a process that has ended, but was not waited for, uses nothing"
    )
    assert str(tmp_path) not in volumes_with_processes()
    process.wait()


def test_a_process_in_a_volume_whose_path_is_no_text_is_found(way: str, tmp_path: Path) -> None:
    volume = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    with running(LIVE, env={VOLUME_VARIABLE: str(volume)}) as inside:
        assert line_of(inside) == "up"
        assert [process.pid for process in processes_of(volume)] == [inside.pid]


def test_a_process_is_found_by_its_working_directory(way: str, tmp_path: Path) -> None:
    volume, neighbour, link = tmp_path / "v1-ab", tmp_path / "v1-abc", tmp_path / "link"
    (volume / "below").mkdir(parents=True)
    neighbour.mkdir()
    link.symlink_to(volume)
    move = "import os, sys; os.chdir(sys.argv[1]); "
    with (
        running(move + LIVE, str(volume / "below")) as inside,
        running(move + LIVE, str(neighbour)) as outside,
    ):
        for process in (inside, outside):
            assert line_of(process) == "up"
        assert processes_working_in(link) == [inside.pid]
