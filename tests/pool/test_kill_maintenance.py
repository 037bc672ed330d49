"""kill -9 at every step of a backup, a prune, an eviction, a restore: nothing lost, nothing left over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from provisioner.maintenance.sweep import sweep
from provisioner.pool.pool import Pool
from tests.support.world import Work, World, as_another_process, kill_at, steps_of

FILES = {"kept.txt": "the bytes that a user wrote", "more.txt": "and more of them"}


def stopped(world: World) -> None:
    world.use("a", **FILES)


def backed_up(world: World) -> None:
    stopped(world)
    world.pool.back_up(world.record("a").id)


def pruned(world: World) -> None:
    backed_up(world)
    world.pool.prune(world.record("a").id)
    world.pool.files.trash.empty()


def back_up(world: World, pool: Pool) -> None:
    pool.back_up(world.record("a").id)


def prune(world: World, pool: Pool) -> None:
    pool.prune(world.record("a").id)


def acquire_another(world: World, pool: Pool) -> None:
    world.acquire("b", pool)


def acquire(world: World, pool: Pool) -> None:
    world.acquire("a", pool)


def restore(world: World, pool: Pool) -> None:
    pool.restore(world.record("a").id)


def changed_since(world: World) -> None:
    backed_up(world)
    world.clock.advance(days=1)
    world.use("a", changed="yes")


def sweep_due(world: World, pool: Pool) -> None:
    report = sweep(pool, deep=True)
    assert not [step for step in report.steps if step.error]


def long_stopped(world: World) -> None:
    stopped(world)
    world.clock.advance(days=30)


WAYS: dict[str, tuple[Callable[[World], None], Work, dict[str, Any], int]] = {
    "backup": (stopped, back_up, {}, 11),
    "backup of a change, which drops the one before": (
        changed_since,
        back_up,
        {"keep_backups": 1},
        13,
    ),
    "prune": (backed_up, prune, {}, 3),
    "eviction": (stopped, acquire_another, {"max_volumes": 1}, 21),
    "restore by a kernel": (pruned, acquire, {}, 16),
    "restore by hand": (pruned, restore, {}, 10),
    "restore over files": (changed_since, restore, {}, 21),
    "sweep": (long_stopped, sweep_due, {}, 14),
}
"""What is prepared, what a process is killed in, with which settings, and at how many steps at least."""


@pytest.mark.parametrize("way", WAYS)
def test_a_process_killed_at_any_step_loses_nothing_and_leaves_nothing(
    way: str, tmp_path: Path
) -> None:
    prepare, work, settings, least = WAYS[way]
    trial = World(tmp_path / "trial", **settings)
    prepare(trial)
    steps = steps_of(as_another_process(work, trial))
    assert len(set(steps)) >= least, "the work names too few steps at which it could be stopped"
    for number, step in enumerate(steps):
        world = World(tmp_path / str(number), **settings)
        prepare(world)
        before = dict(world.written["a"])
        died = kill_at(number, as_another_process(work, world))
        assert died, f"{way}: not killed at {step}"
        again = World(tmp_path / str(number), **settings)
        again.clock.now = world.clock.now
        sweep(again.pool)
        found = again.safe_content("a", tmp_path / f"{number}.out")
        without_change = {name: text for name, text in before.items() if name != "changed"}
        allowed = [before, without_change] if way == "restore over files" else [before]
        assert found in allowed, f"{way}: killed at {step}"
        again.use("a")
        assert again.is_on_disk("a")
        sweep(again.pool)
        again.pool.files.trash.empty()
        assert again.leftovers() == [], f"{way}: killed at {step}"
