"""Starts that wait for processes which a killed server left behind, and are cancelled meanwhile."""

from __future__ import annotations

import subprocess
import threading
from datetime import timedelta

import psutil

from provisioner.core.errors import Cancelled, VolumeHeld
from provisioner.pool.pool import Pool
from provisioner.settings.pool import VolumePool
from provisioner.system.processes import wait_until_gone
from tests.support.pools import acquire, refusal


def test_a_start_that_waits_for_processes_left_behind_ends_when_it_is_cancelled(
    pool: Pool, left_by_a_killed_server: subprocess.Popen[str]
) -> None:
    patient = Pool(VolumePool(root=pool.settings.root, acquire_timeout="1h"))
    leased, cancel = threading.Event(), threading.Event()
    patient.root.on_step = lambda step: leased.set() if step == "leased" else None
    said: list[str] = []

    def start() -> None:
        said.append(
            refusal(Cancelled, lambda: patient.acquire("a", "python3", kernel="k", cancel=cancel))
        )

    thread = threading.Thread(target=start, daemon=True)
    thread.start()
    assert leased.wait(60)
    thread.join(0.3)
    assert thread.is_alive(), "the start waits"
    cancel.set()
    thread.join(30)
    assert len(said) == 1
    # The next start is refused, and the refusal names the processes.
    assert f"processes {left_by_a_killed_server.pid} " in refusal(VolumeHeld, lambda: acquire(pool))
    left_by_a_killed_server.kill()
    left_by_a_killed_server.wait()
    pool.release(acquire(pool))
    patient.close()


def test_a_start_goes_on_as_soon_as_the_processes_left_behind_have_ended(
    pool: Pool, left_by_a_killed_server: subprocess.Popen[str]
) -> None:
    pool.settings.acquire_timeout = timedelta(hours=1)
    pool.root.on_step = lambda step: left_by_a_killed_server.kill() if step == "leased" else None
    pool.release(acquire(pool))


def test_waiting_for_processes_returns_those_that_remain_after_the_timeout(
    left_by_a_killed_server: subprocess.Popen[str],
) -> None:
    process = psutil.Process(left_by_a_killed_server.pid)
    assert wait_until_gone([process], 0.05) == [process]
    left_by_a_killed_server.kill()
    assert wait_until_gone([process], 60) == []
