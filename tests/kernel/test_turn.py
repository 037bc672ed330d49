"""Kernels that start at once: as many at a time as there are cores for them, and nobody waits for long."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from provisioner.kernel.turn import LONGEST, PATIENCE, Turn, Turns, cores
from tests.support.starters import BUSY, NEVER, Starter

LOOKS = 10


@pytest.fixture
def one_at_a_time() -> Iterator[Starter]:
    """A starter with one turn that time does not end."""
    starter = Starter(Turns(1, longest=NEVER, patience=NEVER))
    yield starter
    starter.end_all()


async def looked(task: asyncio.Task[None], looks: list[None]) -> None:
    """Wait until somebody who waits has looked around for some time, and still waits."""
    before = len(looks)
    while len(looks) < before + LOOKS:
        await asyncio.sleep(0.001)
        assert not task.done()


# -- one after the other -------------------------------------------------------------------------------------------


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


def test_a_kernel_behind_a_wrapper_that_sleeps_has_its_turn_as_any(one_at_a_time: Starter) -> None:
    wrapper = ("sh", "-c", f"sh -c '{sys.executable} -c \"print(flush=True)\n{BUSY}\"; :'; :")

    async def start_two(wrapped: subprocess.Popen[bytes]) -> None:
        async with one_at_a_time.turns.turn() as turn:
            turn.launched(wrapped.pid)
        looks: list[None] = []
        second = asyncio.create_task(one_at_a_time.start("second", look=lambda: looks.append(None)))
        await looked(second, looks)
        os.killpg(wrapped.pid, signal.SIGKILL)
        await second

    with subprocess.Popen(wrapper, stdout=subprocess.PIPE, start_new_session=True) as wrapped:
        try:
            assert wrapped.stdout is not None
            wrapped.stdout.readline()
            asyncio.run(start_two(wrapped))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(wrapped.pid, signal.SIGKILL)


def test_a_start_goes_on_when_the_other_has_come_up_and_sleeps(one_at_a_time: Starter) -> None:
    async def start_two() -> None:
        await one_at_a_time.start("first", "sleep", "600")
        await one_at_a_time.start("second", "sleep", "600")

    asyncio.run(asyncio.wait_for(start_two(), 60))
    assert one_at_a_time.processes["first"].poll() is None


def test_a_process_that_sleeps_for_an_instant_only_keeps_its_turn(one_at_a_time: Starter) -> None:
    script = f"print(flush=True)\n{BUSY}"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            turn = Turn(until=1000.0)
            turn.launched(process.pid)
            for now, is_stopped, is_over in [
                (1.0, True, False),
                (1.0, True, False),  # several that wait may look at the same moment
                (2.0, False, False),
                (3.0, True, False),
                (3.02, True, True),
            ]:
                if is_stopped:
                    os.kill(process.pid, signal.SIGSTOP)
                    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
                else:
                    os.kill(process.pid, signal.SIGCONT)
                    os.waitid(os.P_PID, process.pid, os.WCONTINUED)
                assert turn.is_over(now) == is_over, now
        finally:
            process.kill()


def test_few_starts_wait_for_nobody() -> None:
    starter = Starter(Turns(3, longest=NEVER))

    async def start_three() -> None:
        for name in ("a", "b", "c"):
            # Not once does it give the event loop away.
            with pytest.raises(StopIteration):
                starter.start(name).send(None)

    try:
        asyncio.run(start_three())
        assert starter.started == ["a", "b", "c"]
    finally:
        starter.end_all()


def test_a_start_waits_for_no_kernel_that_has_ended(one_at_a_time: Starter) -> None:
    async def start_two() -> None:
        await one_at_a_time.start("first")
        one_at_a_time.end("first")
        with pytest.raises(StopIteration):
            one_at_a_time.start("second").send(None)

    asyncio.run(start_two())
    assert one_at_a_time.started == ["first", "second"]


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


# -- bounds --------------------------------------------------------------------------------------------------------


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
        starter.end_all()


def test_nobody_waits_longer_than_some_seconds_however_many_are_before() -> None:
    now = [0.0]
    turns = Turns(1, longest=NEVER, clock=lambda: now[0])
    waited: list[float] = []

    def a_second_passes() -> None:
        now[0] += 1.0

    async def never_launched() -> None:
        async with turns.turn():
            await asyncio.Event().wait()

    async def start() -> None:
        async with turns.turn(a_second_passes):
            waited.append(now[0])
            await asyncio.Event().wait()

    async def start_many() -> None:
        tasks = [asyncio.create_task(start_one()) for start_one in (never_launched, *[start] * 3)]
        while len(waited) < 3:
            await asyncio.sleep(0.001)
        for task in tasks:
            task.cancel()

    asyncio.run(start_many())
    assert all(PATIENCE.total_seconds() <= at < PATIENCE.total_seconds() + 3 for at in waited)


def test_fifty_starts_at_once_never_have_more_turns_than_there_are() -> None:
    turns = Turns(4, longest=NEVER, patience=NEVER)
    now, most, ended = 0, 0, 0

    async def start() -> None:
        nonlocal now, most, ended
        async with turns.turn():
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1
        ended += 1

    async def start_all() -> None:
        await asyncio.gather(*(start() for _ in range(50)))

    asyncio.run(asyncio.wait_for(start_all(), 60))
    assert (most, ended) == (4, 50)


# -- ends ----------------------------------------------------------------------------------------------------------


def test_a_launch_that_fails_gives_its_turn_back_at_once(one_at_a_time: Starter) -> None:
    async def start_two() -> None:
        with pytest.raises(FileNotFoundError):
            await one_at_a_time.start("first", "/no/such/program")
        with pytest.raises(StopIteration):
            one_at_a_time.start("second", "true").send(None)

    asyncio.run(start_two())
    assert one_at_a_time.started == ["first", "second"]


def test_a_launcher_that_knows_no_process_has_its_turn_for_the_launch_only() -> None:
    turns = Turns(1, longest=NEVER, patience=NEVER)

    async def start() -> None:
        async with turns.turn() as turn:
            turn.launched(None)

    for _ in range(2):
        with pytest.raises(StopIteration):
            start().send(None)


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


# -- cores ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [
        ("max 100000", "150000 100000", 2),
        ("max 100000", "50000 100000", 1),
        ("max 100000", "max 100000", 64),
        ("max 100000", "12800000 100000", 64),
        ("200000 100000", "max 100000", 2),
        ("200000 100000", "800000 100000", 2),
    ],
)
def test_a_container_with_a_share_of_the_machine_has_that_many_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outer: str, inner: str, expected: int
) -> None:
    group = tmp_path / "cgroup"
    group.write_text("4:memory:/elsewhere\n0::/user.slice/jupyter\n")
    own = tmp_path / "top" / "user.slice" / "jupyter"
    own.mkdir(parents=True)
    (own / "cpu.max").write_text(f"{inner}\n")
    (own.parent / "cpu.max").write_text(f"{outer}\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert cores(group, tmp_path / "top") == expected


def test_where_no_share_is_told_the_cores_are_those_it_may_run_on(tmp_path: Path) -> None:
    found = cores(tmp_path / "missing", tmp_path)
    assert 1 <= found <= (os.cpu_count() or 1)


def test_where_nobody_says_what_a_process_is_at_starts_are_held_up_for_a_moment_only(
    one_at_a_time: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provisioner.kernel.turn.sys", SimpleNamespace(platform="darwin"))

    async def start_two() -> None:
        await one_at_a_time.start("first")
        await one_at_a_time.start("second")

    asyncio.run(asyncio.wait_for(start_two(), 60))
    assert one_at_a_time.started == ["first", "second"]
