"""A process that forks while its threads are at work: neither side waits forever, and nothing is lost."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.pool.pool import Pool
from provisioner.registry.registry import FILE_NAME, Registry
from provisioner.system import forks
from provisioner.system import lease as leases
from tests.support.children import Child
from tests.support.processes import line_of, running
from tests.support.tables import NOW
from tests.support.threads import Held, Pause, at_once
from tests.support.world import World


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """A new table."""
    registry = Registry(tmp_path / FILE_NAME, create=True)
    yield registry
    registry.close()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let forks wait for longer: on a slow machine a write may take more than a second."""
    monkeypatch.setattr(forks, "_PATIENCE_SECONDS", 60.0)


# -- while a table is being rebuilt --------------------------------------------------------------------------------


@pytest.fixture
def world(root: Path) -> World:
    """Three volumes."""
    world = World(root)
    for session in "abc":
        world.use(session, file=session)
    return world


def rebuilding(world: World, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Held:
    """Return a thread that stands still while it rebuilds the table of `world` for `pool`."""
    (world.pool.root.layout.root / FILE_NAME).unlink()

    def begin(pause: Pause) -> object:
        def rescan(fresh: Registry, destination: str) -> None:
            fresh.volumes.all()
            pause()
            fresh.volumes.all()

        monkeypatch.setattr("provisioner.pool.stored.enter_all", rescan)
        return len(pool.volumes())

    return Held(begin)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("is_open", [True, False])
def test_a_fork_during_a_rebuild_does_not_wait_and_both_sides_find_the_new_table(
    world: World, monkeypatch: pytest.MonkeyPatch, is_open: bool
) -> None:
    pool = world.new_pool()
    if is_open:
        assert len(pool.volumes()) == 3
    world.pool.close()
    with rebuilding(world, pool, monkeypatch) as thread:
        with Child(lambda: len(pool.volumes())) as child:
            assert not thread.has_ended, "the fork waited for the rebuild"
            thread.let_go()
            assert child.said() == "3"
        assert thread.result == 3
        assert len(pool.volumes()) == 3
        assert pool.root.registry.check_all() == []
    pool.close()


@pytest.mark.usefixtures("patient")
def test_a_child_forked_during_a_rebuild_does_not_prevent_the_next_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = world.new_pool()
    world.pool.close()
    with rebuilding(world, pool, monkeypatch) as thread, Child(lambda: "up", stays=True) as child:
        assert child.said() == "up"
        thread.let_go()
        monkeypatch.setattr("provisioner.registry.rebuild._REBUILD_SECONDS", 1.0)
        (pool.root.layout.root / FILE_NAME).unlink()
        assert len(world.new_pool().volumes()) == 3
    pool.close()


# -- while a table is being written --------------------------------------------------------------------------------


def writing(registry: Registry) -> Held:
    """Return a thread that stands still in a transaction."""

    def begin(pause: Pause) -> object:
        def work(connection: object) -> str:
            pause()
            return "written"

        registry.volumes.create("v1-0", "a", "python3", NOW, 5)
        return registry.database.write(work)

    return Held(begin)


def refusals(registry: Registry, other: Path) -> str:
    """Use a table in this process in every way there is, and return the outcomes, a line each."""
    said = []
    for use in (
        lambda: registry.volumes.all(),
        lambda: registry.volumes.create("v1-1", "b", "python3", NOW, 5),
        lambda: Registry(registry.path),
        lambda: Registry(other, create=True),
        lambda: registry.close(),
    ):
        try:
            said.append(str(use()))
        except Exception as error:  # noqa: BLE001 - reported to the parent, which knows what it expects
            said.append(f"{type(error).__name__}: {error}")
    return "\n".join(said)


def test_a_child_forked_during_a_write_is_refused_plainly_and_its_parent_goes_on(
    registry: Registry, tmp_path: Path
) -> None:
    """SQLite's mutexes are as the other thread held them: the child could neither read nor close anything."""

    def child_and_grandchild() -> str:
        first = refusals(registry, tmp_path / "other")
        with Child(lambda: refusals(registry, tmp_path / "other")) as grandchild:
            return f"{first}\n{grandchild.said()}"

    with writing(registry) as thread:
        with Child(child_and_grandchild) as child:
            assert not thread.has_ended, "the fork waited for the write"
            lines = child.said().splitlines()
            assert len(lines) == 10
            for line in (*lines[:4], *lines[5:9]):
                assert line.startswith("RegistryUnusable: ")
                for part in ("forked", "start a new one", "subprocess", "spawn"):
                    assert part in line
            assert lines[4] == lines[9] == "None", "closing is harmless"
        thread.let_go()
        assert thread.result == "written"
    assert not (tmp_path / "other").exists()
    assert [record.session for record in registry.volumes.all()] == ["a"]
    assert registry.check_all() == []
    with Child(lambda: len(registry.volumes.all())) as later:
        assert later.said() == "1", "only that one child is refused"


def test_a_child_forked_by_the_thread_that_writes_is_refused_and_its_parent_goes_on(
    registry: Registry, tmp_path: Path
) -> None:
    """The fork cannot wait for the thread that makes it."""

    def fork(connection: object) -> str:
        with Child(lambda: refusals(registry, tmp_path / "other")) as child:
            return child.said()

    lines = registry.database.write(fork).splitlines()
    assert [line.split(":")[0] for line in lines] == [*["RegistryUnusable"] * 4, "None"]
    assert registry.check_all() == []
    with Child(lambda: len(registry.volumes.all())) as later:
        assert later.said() == "0", "only that one child is refused"


ENDS = """
import os, signal, sys, threading
from datetime import datetime, timezone
from pathlib import Path
from provisioner.registry.registry import Registry
registry = Registry(Path(sys.argv[1]), create=True)
other = Registry(Path(sys.argv[1]))
now = datetime.now(timezone.utc)
began, over = threading.Event(), threading.Event()

def work(connection):
    for number in range(200):
        connection.execute(
            "INSERT INTO volumes (id, session, kernelspec, state, generation, created) "
            "VALUES (?, ?, '', 'stopped', 0, 0)", (f"v1-{number}", f"{number} " * 5000))
    began.set()
    over.wait(60)

thread = threading.Thread(target=registry.database.write, args=(work,))
thread.start()
began.wait(60)
child = os.fork()
if child == 0:
    signal.alarm(60)
    sys.exit(7)  # as a program ends: all modules are torn down, and all objects with them
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
over.set()
thread.join()
print(len(other.volumes.all()), registry.check_all(), flush=True)
"""


def test_the_end_of_such_a_child_undoes_nothing_of_what_its_parent_writes(tmp_path: Path) -> None:
    with running(ENDS, str(tmp_path / FILE_NAME)) as parent:
        assert line_of(parent) == "7"
        assert line_of(parent) == "200 []"


@pytest.mark.usefixtures("patient")
def test_children_forked_by_many_threads_while_others_write_can_read(
    registry: Registry,
) -> None:
    over = threading.Event()
    said: list[str] = []

    def write(name: str) -> None:
        number = 0
        while not over.is_set():
            registry.volumes.create(
                f"v1-{name}-{number}", f"{name} {number}", "python3", NOW, 100_000
            )
            number += 1

    def fork() -> None:
        for _ in range(4):
            with Child(lambda: len(registry.volumes.all()) > 0 and registry.check_all()) as child:
                said.append(child.said())

    registry.volumes.create("v1", "first", "python3", NOW, 5)
    writers = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    for thread in writers:
        thread.start()
    at_once([fork] * 3)
    over.set()
    for thread in writers:
        thread.join()
    assert said == ["[]"] * 12
    assert registry.check_all() == []


# -- while a lease is held -----------------------------------------------------------------------------------------


def test_a_child_forked_during_an_acquire_can_acquire_the_same_volume_later(world: World) -> None:
    """A lock that the other thread holds on the volume would never be released in the child."""

    def use() -> None:
        pool.release(world.acquire("a", pool))

    def begin(pause: Pause) -> None:
        paused.append(pause)
        use()

    def on_step(step: str) -> None:
        if step == "lease" and paused:
            paused.pop()()

    paused: list[Pause] = []
    pool = world.new_pool(on_step)
    with Held(begin), Child(use) as child:
        assert child.said() == "None"
    pool.close()


def test_a_child_forked_while_its_parent_checks_a_lease_does_not_keep_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check takes a shared lock for a moment, which the child must not keep."""
    path = tmp_path / "lease"
    path.touch()
    asked = threading.Event()
    flock = fcntl.flock
    children: list[Child] = []

    def fork() -> None:
        asked.set()
        children.append(Child(lambda: "up", stays=True))

    forker = threading.Thread(target=fork)

    def locks_while_another_thread_forks(fd: int, operation: int) -> None:
        flock(fd, operation)
        if forker.ident is not None:
            return
        forker.start()
        assert asked.wait(60)
        # Long enough for the fork to happen while the lock is held.
        forker.join(0.2)

    with monkeypatch.context() as patch:
        patch.setattr("provisioner.system.locks.fcntl.flock", locks_while_another_thread_forks)
        assert not leases.is_held(path)
    forker.join()
    with children[0] as child:
        assert child.said() == "up"
        with monkeypatch.context() as patch:
            patch.setattr("provisioner.system.locks.fcntl.LOCK_SH", fcntl.LOCK_EX)
            assert not leases.is_held(path), "the child does not even have a shared lock on it"
