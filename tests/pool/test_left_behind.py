"""Processes that outlive their kernel keep its volume in use."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from provisioner.core.errors import VolumeError, VolumeHeld
from provisioner.core.record import State
from provisioner.maintenance.sweep import sweep
from provisioner.pool.pool import Pool
from provisioner.system import lease as leases
from provisioner.system.lease import Lease, Purpose
from tests.support.pools import acquire, raising_at, refusal, rename, wait_for
from tests.support.processes import kill

Process = subprocess.Popen[str]


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
