"""kill -9 at every step of an acquire and a release: the next acquire works, and nothing is left over."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from provisioner.core.errors import PoolFull
from provisioner.core.record import State
from provisioner.maintenance.sweep import sweep
from provisioner.pool.pool import Pool
from tests.support.pools import leftovers, rename
from tests.support.world import Work, World, as_another_process, kill_at, steps_of


def nothing(world: World) -> None:
    """No volume yet."""


def stopped(world: World) -> None:
    world.use("a", file="the bytes that a user wrote")


def acquire(world: World, pool: Pool) -> None:
    world.acquire("a", pool)


def acquire_twice(world: World, pool: Pool) -> None:
    world.acquire("a", pool)
    world.acquire("a", pool)


def use(world: World, pool: Pool) -> None:
    pool.release(world.acquire("a", pool))


def share(world: World, pool: Pool) -> None:
    first, second = world.acquire("a", pool), world.acquire("a", pool)
    pool.release(first)
    pool.release(second)


def use_renamed(world: World, pool: Pool) -> None:
    acquired = world.acquire("a", pool)
    rename(pool, "a", "b")
    rename(pool, "b", "a")
    pool.release(acquired)


WAYS: dict[str, tuple[Callable[[World], None], Work]] = {
    "acquire of a new volume": (nothing, acquire),
    "acquire of an existing volume": (stopped, acquire),
    "acquire of a new volume, shared": (nothing, acquire_twice),
    "acquire of an existing volume, shared": (stopped, acquire_twice),
    "use of a new volume": (nothing, use),
    "use of an existing volume": (stopped, use),
    "use shared": (stopped, share),
    "use with a new name": (stopped, use_renamed),
}


def assert_no_strays(pool: Pool, step: str) -> None:
    """Fail if something stays that belongs to no volume; a thread of the acquire may still be deleting."""
    deadline = time.monotonic() + 30
    while (left := leftovers(pool)) and time.monotonic() < deadline:
        pool.files.trash.empty()
        time.sleep(0.02)
    assert left == [], step


def worlds_killed(way: str, tmp_path: Path, **settings: object) -> list[tuple[str, World]]:
    """Return, for each step of a way, a world in which a process was killed there."""
    prepare, work = WAYS[way]
    trial = World(tmp_path / "trial", **settings)
    prepare(trial)
    steps = steps_of(as_another_process(work, trial))
    killed = []
    for number, step in enumerate(steps):
        world = World(tmp_path / str(number), **settings)
        prepare(world)
        world.pool.close()
        died = kill_at(number, as_another_process(work, world))
        assert died, f"not killed at {step}"
        killed.append((step, world))
    assert len(killed) >= 5, "the work names too few steps at which it could be stopped"
    return killed


@pytest.mark.parametrize("way", WAYS)
def test_after_a_kill_at_any_step_the_next_acquire_works_and_all_files_are_there(
    way: str, tmp_path: Path
) -> None:
    for step, world in worlds_killed(way, tmp_path, max_volumes=1):
        assert [r for r in world.pool.volumes() if r.state is State.ACTIVE] == [], step
        acquired = world.acquire("a")
        for name, content in world.written.get("a", {}).items():
            assert (acquired.path / name).read_bytes() == content, step
        assert len(world.pool.volumes()) == 1, step
        assert_no_strays(world.pool, step)
        world.pool.release(acquired)
        world.pool.close()


@pytest.mark.parametrize("way", WAYS)
def test_after_a_kill_at_any_step_a_sweep_leaves_only_volumes_that_came_to_be(
    way: str, tmp_path: Path
) -> None:
    for step, world in worlds_killed(way, tmp_path):
        sweep(world.pool, deep=True)
        assert_no_strays(world.pool, step)
        records = world.pool.root.registry.volumes.all()
        assert [r.state for r in records] == [State.STOPPED] * len(records), step
        assert all(r.generation for r in records), step
        for record in records:
            assert not world.pool.leases.is_held(record), step
            assert world.pool.path(record).is_dir(), step
        world.pool.close()


def test_a_volume_that_never_came_to_be_takes_no_place_from_another_session(
    tmp_path: Path,
) -> None:
    for step, world in worlds_killed("acquire of a new volume", tmp_path, max_volumes=1):
        acquired = None
        try:
            acquired = world.acquire("another")
        except PoolFull:
            # Only a volume that a kernel has had may stand in the way of another.
            assert [r.generation for r in world.pool.volumes()] == [1], step
        if acquired is not None:
            assert_no_strays(world.pool, step)
            world.pool.release(acquired)
        world.pool.close()
