"""Processes that outlive their kernel keep its volume in use."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from provisioner.core.errors import Cancelled, VolumeError, VolumeHeld
from provisioner.core.record import State
from provisioner.core.session import VOLUME_VARIABLE
from provisioner.maintenance.sweep import sweep
from provisioner.pool.pool import Pool
from provisioner.settings.pool import VolumePool
from provisioner.system import lease as leases
from provisioner.system.lease import Lease, Purpose
from provisioner.system.processes import wait_until_gone
from tests.support.pools import HOLDER, acquire, raising_at, refusal, rename, wait_for
from tests.support.processes import kill, line_of, running

Process = subprocess.Popen[str]


@pytest.fixture
def living_in() -> Iterator[Callable[[Path], Process]]:
    """Starts a process that lives in a volume, as far as its environment says, until the test is over."""
    with contextlib.ExitStack() as stack:

        def start(path: Path) -> Process:
            script = "print(flush=True); input()"
            process = stack.enter_context(running(script, env={VOLUME_VARIABLE: str(path)}))
            line_of(process)
            return process

        yield start


@pytest.fixture
def left_by_a_killed_server(pool: Pool, living_in: Callable[[Path], Process]) -> Process:
    """A process in the volume of a server that was then killed."""
    with running(HOLDER, str(pool.settings.root), "a") as server:
        process = living_in(Path(line_of(server)))
        kill(server)
    return process


def test_processes_left_behind_keep_the_volume_in_use_and_are_named(
    pool: Pool, living_in: Callable[[Path], Process]
) -> None:
    acquired = acquire(pool)
    process = living_in(acquired.path)
    pool.release(acquired)
    record = pool.find("a")
    assert record.state is State.ACTIVE
    holder = pool.holder(record)
    assert holder is not None
    assert holder.purpose is Purpose.LEFT_BEHIND
    assert holder.processes == (process.pid,)
    other = Pool(pool.settings)
    assert str(process.pid) in refusal(VolumeHeld, lambda: acquire(other))
    kill(process)
    wait_for(lambda: not pool.leases.is_held(record))
    assert pool.find("a").state is State.STOPPED
    pool.release(acquire(pool))
    other.close()


def test_the_same_process_may_use_the_volume_beside_those_left_behind(
    pool: Pool, living_in: Callable[[Path], Process]
) -> None:
    acquired = acquire(pool)
    first = living_in(acquired.path)
    pool.release(acquired)
    again = acquire(pool, kernel="k2")
    holder = pool.holder(again.record)
    assert holder is not None
    assert holder.purpose is Purpose.KERNEL, "a kernel holds it now"
    second = living_in(acquired.path)
    pool.release(again)
    kill(first)
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        assert pool.leases.is_held(again.record), "the second process lives on in it"
        time.sleep(0.01)
    kill(second)
    wait_for(lambda: not pool.leases.is_held(again.record))


def test_those_whom_a_killed_server_left_behind_hold_the_volume_until_they_end(
    pool: Pool, left_by_a_killed_server: Process
) -> None:
    process = left_by_a_killed_server
    for _ in range(2):
        (listed,) = pool.volumes()
        for record in (listed, pool.find("a")):
            assert record.state is State.ACTIVE
            assert f"processes {process.pid} " in str(pool.holder(record))
        assert f"processes {process.pid} " in refusal(VolumeHeld, lambda: acquire(pool))
    kill(process)
    (listed,) = pool.volumes()
    for record in (listed, pool.find("a")):
        assert record.state is State.STOPPED
        assert pool.holder(record) is None
    pool.release(acquire(pool))


def test_an_acquire_that_fails_leaves_their_volume_refused_to_the_next(
    pool: Pool, left_by_a_killed_server: Process
) -> None:
    failing = Pool(pool.settings, on_step=raising_at("leased", OSError("it does not answer")))
    with pytest.raises(VolumeError, match="cannot be used"):
        acquire(failing)
    said = refusal(VolumeHeld, lambda: acquire(pool))
    assert f"processes {left_by_a_killed_server.pid} " in said


def test_their_volume_keeps_its_name(pool: Pool, left_by_a_killed_server: Process) -> None:
    pool.release(acquire(pool, "b"))
    assert rename(pool, "b", "a") is None
    said = refusal(VolumeHeld, lambda: acquire(pool))
    assert f"processes {left_by_a_killed_server.pid} " in said
    kill(left_by_a_killed_server)
    assert rename(pool, "b", "a") is not None
    pool.release(acquire(pool))


def test_a_start_that_waits_for_processes_left_behind_ends_when_it_is_cancelled(
    pool: Pool, left_by_a_killed_server: Process
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
    refused = refusal(VolumeHeld, lambda: acquire(pool))
    assert f"processes {left_by_a_killed_server.pid} " in refused
    kill(left_by_a_killed_server)
    pool.release(acquire(pool))
    patient.close()


def test_a_start_goes_on_as_soon_as_the_processes_left_behind_have_ended(
    pool: Pool, left_by_a_killed_server: Process
) -> None:
    pool.settings.acquire_timeout = timedelta(hours=1)
    pool.root.on_step = lambda step: left_by_a_killed_server.kill() if step == "leased" else None
    pool.release(acquire(pool))


def test_waiting_for_processes_returns_those_that_remain_after_the_timeout(
    left_by_a_killed_server: Process,
) -> None:
    process = psutil.Process(left_by_a_killed_server.pid)
    assert wait_until_gone([process], 0.05) == [process]
    left_by_a_killed_server.kill()
    assert wait_until_gone([process], 60) == []


def test_a_sweep_asks_for_no_volume_that_is_in_use(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking takes a twentieth of a second for each: with hundreds of kernels, a sweep would take half a minute."""
    used = [acquire(pool, f"s{number}", f"k{number}") for number in range(3)]
    asked: list[str] = []
    take = leases.take

    def counting(path: Path, *arguments: Any, **options: Any) -> Lease | None:
        asked.append(path.name)
        return take(path, *arguments, **options)

    monkeypatch.setattr(leases, "take", counting)
    other = Pool(pool.settings)
    sweep(other)
    assert asked == []
    pool.release(used[0])
    pool.root.registry.volumes.activate(used[0].record.id, "python3", pool.clock())
    sweep(other)
    assert used[0].record.id in asked, "its record says active while nobody holds it"
    assert not {used[1].record.id, used[2].record.id} & set(asked)
    for acquired in used[1:]:
        pool.release(acquired)
    other.close()
