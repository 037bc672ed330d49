"""Kernels that start at once: as many at a time as there are cores for them, and nobody waits for long."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from provisioner.turn import LONGEST, PATIENCE, Turn, Turns, cores

from .children import Child

BUSY = "while True: pass"
LOOKS = 10


class Starter:
    """Starts processes in turn, each when it is its turn, and remembers the order."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.started: list[str] = []
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    async def start(
        self, name: str, *command: str, look: Callable[[], object] = lambda: None
    ) -> None:
        async with self.turns.turn(look) as turn:
            self.started.append(name)
            process = subprocess.Popen(command or [sys.executable, "-c", BUSY])
            self.processes[name] = process
            turn.launched(process.pid)

    def end(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()


@pytest.fixture
def one_at_a_time() -> Iterator[Starter]:
    """A starter with one turn that time does not end."""
    starter = Starter(Turns(1, clock=lambda: 0.0))
    yield starter
    for process in starter.processes.values():
        process.kill()
        process.wait()


async def looked(task: asyncio.Task[None], looks: list[None]) -> None:
    """Wait until somebody who waits has looked around for some time, and still waits."""
    before = len(looks)
    while len(looks) < before + LOOKS:
        await asyncio.sleep(0.001)
        assert not task.done()


def test_a_start_waits_while_another_needs_the_core_and_goes_on_when_it_has_ended(
    one_at_a_time: Starter,
) -> None:
    async def start_two() -> None:
        await one_at_a_time.start("first")
        looks: list[None] = []
        second = asyncio.create_task(one_at_a_time.start("second", look=lambda: looks.append(None)))
        await looked(second, looks)
        assert one_at_a_time.started == ["first"]
        one_at_a_time.end("first")
        await second

    asyncio.run(start_two())
    assert one_at_a_time.started == ["first", "second"]


def test_a_start_goes_on_when_the_other_has_come_up_and_sleeps(one_at_a_time: Starter) -> None:
    async def start_two() -> None:
        await one_at_a_time.start("first", "sleep", "600")
        await one_at_a_time.start("second", "sleep", "600")

    asyncio.run(asyncio.wait_for(start_two(), 60))
    assert one_at_a_time.processes["first"].poll() is None


def test_a_process_that_sleeps_for_an_instant_only_keeps_its_turn(one_at_a_time: Starter) -> None:
    async def start() -> Turn:
        async with one_at_a_time.turns.turn() as turn:
            script = f"print(flush=True)\n{BUSY}"
            process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
            one_at_a_time.processes["it"] = process
            assert process.stdout is not None
            with process.stdout as begun:
                begun.readline()
            turn.launched(process.pid)
        return turn

    turn = asyncio.run(start())
    process = one_at_a_time.processes["it"]
    os.kill(process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    assert not turn.is_over(0.0)
    os.kill(process.pid, signal.SIGCONT)
    os.waitid(os.P_PID, process.pid, os.WCONTINUED)
    assert not turn.is_over(0.0)
    os.kill(process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    assert not turn.is_over(0.0)
    assert turn.is_over(0.0)


def test_few_starts_wait_for_nobody() -> None:
    starter = Starter(Turns(3, clock=lambda: 0.0))

    async def start_three() -> None:
        for name in ("a", "b", "c"):
            # Not once does it give the event loop away.
            with pytest.raises(StopIteration):
                starter.start(name).send(None)

    try:
        asyncio.run(start_three())
        assert starter.started == ["a", "b", "c"]
    finally:
        for name in starter.started:
            starter.end(name)


def test_those_who_wait_start_in_the_order_in_which_they_asked(one_at_a_time: Starter) -> None:
    names = [f"{number}" for number in range(5)]

    async def start_all() -> None:
        await one_at_a_time.start("before")
        tasks = [asyncio.create_task(one_at_a_time.start(name, "true")) for name in names]
        await asyncio.sleep(0)
        one_at_a_time.end("before")
        await asyncio.gather(*tasks)

    asyncio.run(asyncio.wait_for(start_all(), 60))
    assert one_at_a_time.started == ["before", *names]


def test_a_turn_ends_after_some_seconds_whatever_the_kernel_is_at() -> None:
    now = [0.0]
    starter = Starter(Turns(1, clock=lambda: now[0]))

    def a_second_passes() -> None:
        now[0] += 1.0

    async def start_two() -> None:
        await starter.start("first")
        await starter.start("second", look=a_second_passes)

    try:
        asyncio.run(start_two())
        assert now[0] == LONGEST.total_seconds()
    finally:
        for name in starter.started:
            starter.end(name)


def test_nobody_waits_longer_than_some_seconds_however_many_are_before() -> None:
    now = [0.0]
    turns = Turns(1, clock=lambda: now[0])
    waited: list[float] = []

    def a_second_passes() -> None:
        now[0] += 1.0

    async def never_launched() -> None:
        async with turns.turn():
            turn = turns._turns[0]
            turn._until = float("inf")
            await asyncio.Event().wait()

    async def start() -> None:
        async with turns.turn(a_second_passes):
            waited.append(now[0])

    async def start_many() -> None:
        before = asyncio.create_task(never_launched())
        await asyncio.sleep(0)
        await asyncio.gather(start(), start(), start())
        before.cancel()

    asyncio.run(start_many())
    assert len(waited) == 3
    assert all(PATIENCE.total_seconds() <= at < PATIENCE.total_seconds() + 3 for at in waited)


def test_a_launch_that_fails_gives_its_turn_back_at_once(one_at_a_time: Starter) -> None:
    async def start_two() -> None:
        with pytest.raises(FileNotFoundError):
            await one_at_a_time.start("first", "/no/such/program")
        with pytest.raises(StopIteration):
            one_at_a_time.start("second", "true").send(None)

    asyncio.run(start_two())
    assert one_at_a_time.started == ["first", "second"]


def test_who_is_not_wanted_any_more_stops_waiting_and_holds_nobody_up(
    one_at_a_time: Starter,
) -> None:
    def closed() -> None:
        raise asyncio.CancelledError

    async def start_three() -> None:
        await one_at_a_time.start("first")
        with pytest.raises(asyncio.CancelledError):
            await one_at_a_time.start("second", look=closed)
        one_at_a_time.end("first")
        await one_at_a_time.start("third", "true")

    asyncio.run(asyncio.wait_for(start_three(), 60))
    assert one_at_a_time.started == ["first", "third"]


def test_a_forked_process_does_not_wait_for_its_parents_kernels(one_at_a_time: Starter) -> None:
    async def start_there() -> str:
        await one_at_a_time.start("theirs", "true")
        return " ".join(one_at_a_time.started)

    async def fork() -> str:
        await one_at_a_time.start("ours")
        waiting = asyncio.create_task(one_at_a_time.start("waiting"))
        await asyncio.sleep(0)
        with Child(_in_new_loop(start_there)) as child:
            said = child.said()
        waiting.cancel()
        return said

    assert asyncio.run(fork()) == "ours theirs"


def _in_new_loop(work: Callable[[], object]) -> Callable[[], object]:
    """Make what a forked process can do although it was forked in the midst of an event loop."""

    def do() -> object:
        asyncio.events._set_running_loop(None)
        return asyncio.run(work())  # type: ignore[arg-type]  # a coroutine is what it makes

    return do


@pytest.mark.parametrize(
    ("said", "expected"),
    [("150000 100000", 2), ("50000 100000", 1), ("max 100000", None), ("12800000 100000", None)],
)
def test_a_container_with_a_share_of_the_machine_has_that_many_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, expected: int | None
) -> None:
    group = tmp_path / "cgroup"
    group.write_text("4:memory:/elsewhere\n0::/user.slice/jupyter\n")
    own = tmp_path / "top" / "user.slice" / "jupyter"
    own.mkdir(parents=True)
    (own / "cpu.max").write_text(f"{said}\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert cores(group, tmp_path / "top") == (expected or 64)


def test_where_no_share_is_told_the_cores_are_those_it_may_run_on(tmp_path: Path) -> None:
    found = cores(tmp_path / "missing", tmp_path)
    assert 1 <= found <= (os.cpu_count() or 1)
