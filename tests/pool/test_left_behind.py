"""Processes that outlive their kernel keep its volume in use."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provisioner.core.errors import VolumeError, VolumeHeld
from provisioner.core.record import State
from provisioner.core.session import VOLUME_VARIABLE
from provisioner.maintenance.sweep import sweep
from provisioner.pool.kernels import Acquired
from provisioner.pool.pool import Pool
from provisioner.system import lease as leases
from provisioner.system.lease import Lease, Purpose
from tests.support.pools import HOLDER, acquire, refusal, wait_for
from tests.support.processes import kill, line_of, running


def living_in(path: Path, seconds: float = 60) -> subprocess.Popen[bytes]:
    """Start a process that lives in a volume, as far as its environment says."""
    return subprocess.Popen(
        [sys.executable, "-c", f"import time; print(flush=True); time.sleep({seconds})"],
        env={**os.environ, VOLUME_VARIABLE: str(path)},
        stdout=subprocess.PIPE,
    )


@pytest.fixture
def left_behind() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes to be ended when the test is over."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def left_by_a_killed_server(
    pool: Pool, left_behind: list[subprocess.Popen[bytes]]
) -> subprocess.Popen[bytes]:
    """Start a process in the volume of a server that is then killed."""
    with running(HOLDER, str(pool.settings.root), "a") as server:
        process = living_in(Path(line_of(server)))
        left_behind.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        kill(server)
    return process


def test_processes_left_behind_keep_the_volume_in_use_and_are_named(
    pool: Pool, left_behind: list[subprocess.Popen[bytes]]
) -> None:
    acquired = acquire(pool)
    process = living_in(acquired.path)
    left_behind.append(process)
    assert process.stdout is not None
    process.stdout.readline()
    pool.release(acquired)
    record = pool.find("a")
    assert record.state is State.ACTIVE
    holder = pool.holder(record)
    assert holder is not None
    assert holder.purpose is Purpose.LEFT_BEHIND
    assert holder.processes == (process.pid,)
    other = Pool(pool.settings)
    assert str(process.pid) in refusal(VolumeHeld, lambda: acquire(other))
    process.kill()
    process.wait()
    wait_for(lambda: not pool.leases.is_held(record))
    assert pool.find("a").state is State.STOPPED
    pool.release(acquire(pool))
    other.close()


def test_the_same_process_may_use_the_volume_beside_those_left_behind(
    pool: Pool, left_behind: list[subprocess.Popen[bytes]]
) -> None:
    acquired = acquire(pool)
    first = living_in(acquired.path)
    left_behind.append(first)
    assert first.stdout is not None
    first.stdout.readline()
    pool.release(acquired)
    again = acquire(pool, kernel="k2")
    holder = pool.holder(again.record)
    assert holder is not None
    assert holder.purpose is Purpose.KERNEL, "a kernel holds it now"
    second = living_in(acquired.path)
    left_behind.append(second)
    assert second.stdout is not None
    second.stdout.readline()
    pool.release(again)
    first.kill()
    first.wait()
    with pytest.raises(AssertionError, match="never came"):
        deadline_free(pool, again)
    second.kill()
    second.wait()
    wait_for(lambda: not pool.leases.is_held(again.record))


def deadline_free(pool: Pool, acquired: Acquired) -> None:
    """Fail if a volume stays in use for half a second."""
    deadline = time.monotonic() + 0.5
    while pool.leases.is_held(acquired.record):
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.01)


def test_those_whom_a_killed_server_left_behind_keep_the_volume_from_the_next(
    pool: Pool, left_behind: list[subprocess.Popen[bytes]]
) -> None:
    with running(HOLDER, str(pool.settings.root), "a") as other:
        path = Path(line_of(other))
        process = living_in(path)
        left_behind.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        kill(other)
    for _ in range(2):
        assert f"processes {process.pid} " in refusal(VolumeHeld, lambda: acquire(pool))
    process.kill()
    process.wait()
    pool.release(acquire(pool))


def test_those_whom_a_killed_server_left_behind_are_shown_as_the_holder(
    pool: Pool, left_behind: list[subprocess.Popen[bytes]]
) -> None:
    process = left_by_a_killed_server(pool, left_behind)
    (listed,) = pool.volumes()
    for record in (listed, pool.find("a")):
        assert record.state is State.ACTIVE
        holder = pool.holder(record)
        assert holder is not None
        assert f"processes {process.pid} " in str(holder)
    process.kill()
    process.wait()
    (listed,) = pool.volumes()
    for record in (listed, pool.find("a")):
        assert record.state is State.STOPPED
        assert pool.holder(record) is None


def test_an_acquire_that_fails_leaves_their_volume_refused_to_the_next(
    pool: Pool, left_behind: list[subprocess.Popen[bytes]]
) -> None:
    process = left_by_a_killed_server(pool, left_behind)

    def fail(step: str) -> None:
        if step == "leased":
            raise OSError("the disk does not answer")

    failing = Pool(pool.settings, on_step=fail)
    with pytest.raises(VolumeError, match="cannot be used"):
        acquire(failing)
    assert f"processes {process.pid} " in refusal(VolumeHeld, lambda: acquire(pool))


def test_their_volume_keeps_its_name(
    pool: Pool, left_behind: list[subprocess.Popen[bytes]]
) -> None:
    other = acquire(pool, "b")
    pool.release(other)
    process = left_by_a_killed_server(pool, left_behind)
    assert pool.rename("b", "a") is None
    assert f"processes {process.pid} " in refusal(VolumeHeld, lambda: acquire(pool))
    process.kill()
    process.wait()
    assert pool.rename("b", "a") is not None
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
