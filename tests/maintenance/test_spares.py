"""Volumes that are ready before anybody asks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from provisioner.core.record import Spare, State
from provisioner.hydration.environment import Environment
from provisioner.hydration.kernelspec import declared
from provisioner.maintenance.spares import warm
from provisioner.maintenance.sweep import sweep
from provisioner.pool.kernels import Acquired
from provisioner.pool.pool import Pool
from provisioner.settings.pool import VolumePool

NAME = "with-bootstrap"


def tell(step: str, message: str, fraction: float | None = None) -> None:
    """Tell nobody."""


@pytest.fixture
def kernelspec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kernelspec whose bootstrap command leaves a file and a line in a count of its runs."""
    data = tmp_path / "data"
    spec = data / "kernels" / NAME / "kernel.json"
    spec.parent.mkdir(parents=True)
    write_kernelspec(spec, tmp_path / "runs", "one")
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(data))
    monkeypatch.delenv("JUPYTER_VOLUMES_ROOT", raising=False)
    return spec


def write_kernelspec(spec: Path, runs: Path, content: str, pause: float = 0) -> None:
    script = f"echo run >> {runs}; sleep {pause}; echo {content} > made"
    config = {"bootstrap_command": ["/bin/sh", "-c", script]}
    stanza = {"provisioner_name": "volume-provisioner", "config": config}
    spec.write_text(
        json.dumps(
            {
                "argv": ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                "display_name": NAME,
                "language": "python",
                "metadata": {"kernel_provisioner": stanza},
            }
        )
    )


def pool_at(tmp_path: Path, **settings: object) -> Pool:
    return Pool(VolumePool(root=str(tmp_path / "root"), headroom=0, **settings))


def warmed(pool: Pool, count: int) -> int:
    return warm(pool, NAME, count, progress=tell, cancel=threading.Event())


def runs(tmp_path: Path) -> int:
    path = tmp_path / "runs"
    return len(path.read_text().splitlines()) if path.exists() else 0


def is_hydrated(pool: Pool, acquired: Acquired) -> bool:
    options, launch = declared(NAME, os.environ)
    volume = Environment(pool.settings, options, acquired.record, acquired.path)
    return volume.is_ready(launch)


@pytest.mark.usefixtures("kernelspec")
def test_a_new_session_claims_a_spare_that_needs_no_hydration(tmp_path: Path) -> None:
    pool = pool_at(tmp_path)
    assert warmed(pool, 2) == 2
    spare = pool.catalog.spares(NAME)[0]
    acquired = pool.acquire("mine", NAME, kernel="k")
    assert acquired.record.id == spare.id
    assert (acquired.path / "made").read_text() == "one\n"
    assert is_hydrated(pool, acquired)
    assert runs(tmp_path) == 2, "once for each spare, not again for the claim"
    pool.release(acquired)
    again = pool.acquire("mine", NAME, kernel="k")
    assert again.record.id == spare.id, "the session keeps what it claimed"


@pytest.mark.usefixtures("kernelspec")
def test_a_spare_is_claimed_once_and_only_by_its_kernelspec(tmp_path: Path) -> None:
    pool = pool_at(tmp_path)
    warmed(pool, 1)
    other = pool.acquire("other", "another-kernelspec", kernel="k")
    first = pool.acquire("first", NAME, kernel="k")
    second = pool.acquire("second", NAME, kernel="k")
    assert len({other.record.id, first.record.id, second.record.id}) == 3
    assert (first.path / "made").exists()
    assert not (second.path / "made").exists()


@pytest.mark.usefixtures("kernelspec")
def test_what_was_claimed_is_made_anew_and_nothing_more(tmp_path: Path) -> None:
    pool = pool_at(tmp_path)
    warmed(pool, 2)
    assert warmed(pool, 2) == 0
    pool.acquire("mine", NAME, kernel="k")
    assert warmed(pool, 2) == 1
    assert len(pool.catalog.spares(NAME)) == 2
    assert warmed(pool, 0) == 0
    assert pool.catalog.spares(NAME) == []


def test_spares_whose_inputs_changed_are_replaced(tmp_path: Path, kernelspec: Path) -> None:
    pool = pool_at(tmp_path)
    warmed(pool, 2)
    old = {record.id for record in pool.catalog.spares(NAME)}
    write_kernelspec(kernelspec, tmp_path / "runs", "two")
    assert warmed(pool, 2) == 2
    assert not old & {record.id for record in pool.catalog.spares(NAME)}
    assert (pool.acquire("mine", NAME, kernel="k").path / "made").read_text() == "two\n"


@pytest.mark.usefixtures("kernelspec")
def test_spares_are_the_first_to_make_room(tmp_path: Path) -> None:
    pool = pool_at(tmp_path, max_volumes=3)
    kept = pool.acquire("kept", NAME, kernel="k")
    pool.release(kept)
    warmed(pool, 2)
    pool.acquire("new", "another-kernelspec", kernel="k")
    assert len(pool.catalog.spares(NAME)) == 1
    assert kept.path.exists()


@pytest.mark.usefixtures("kernelspec")
def test_a_sweep_leaves_spares_alone_and_backs_none_up(tmp_path: Path) -> None:
    pool = pool_at(tmp_path, backup_after=0.001, prune_after=0.002)
    warmed(pool, 1)
    time.sleep(0.01)
    assert sweep(pool, deep=True).steps == ()
    assert [record.spare for record in pool.catalog.spares(NAME)] == [Spare.READY]


MAKER = """
import sys, threading
from provisioner.settings.pool import load_settings
from provisioner.pool.pool import Pool
from provisioner.maintenance.spares import warm
warm(Pool(load_settings()), sys.argv[1], 2, progress=lambda *a: None, cancel=threading.Event())
"""


def test_two_processes_together_make_no_more_than_wanted(tmp_path: Path, kernelspec: Path) -> None:
    write_kernelspec(kernelspec, tmp_path / "runs", "one", pause=0.3)
    env = {**os.environ, "JUPYTER_VOLUMES_ROOT": str(tmp_path / "root")}
    makers = [subprocess.Popen([sys.executable, "-c", MAKER, NAME], env=env) for _ in range(3)]
    assert [maker.wait(120) for maker in makers] == [0, 0, 0]
    assert len(pool_at(tmp_path).catalog.spares(NAME)) == 2
    assert runs(tmp_path) == 2


def test_a_spare_whose_maker_was_killed_is_neither_claimed_nor_left(
    tmp_path: Path, kernelspec: Path
) -> None:
    write_kernelspec(kernelspec, tmp_path / "runs", "one", pause=30)
    env = {**os.environ, "JUPYTER_VOLUMES_ROOT": str(tmp_path / "root")}
    maker = subprocess.Popen([sys.executable, "-c", MAKER, NAME], env=env)
    deadline = time.monotonic() + 60
    while runs(tmp_path) == 0 and time.monotonic() < deadline:
        time.sleep(0.02)
    pool = pool_at(tmp_path)
    half = pool.catalog.spares(NAME)
    assert [record.spare for record in half] == [Spare.MAKING]
    sweep(pool)
    assert pool.path(half[0]).exists(), "never collected while half-built"
    claimed = pool.acquire("mine", NAME, kernel="k")
    assert claimed.record.id != half[0].id
    maker.send_signal(signal.SIGKILL)
    maker.wait()
    deadline = time.monotonic() + 30
    while pool.catalog.spares(NAME) and time.monotonic() < deadline:
        sweep(pool)  # the hook ends soon after its maker; until then its volume is in use
        time.sleep(0.1)
    assert pool.catalog.spares(NAME) == []
    assert not pool.path(half[0]).exists()
    assert [r.state for r in pool.volumes()] == [State.ACTIVE]
