"""Turns that are shared by several event loops in several threads, and by processes forked in between."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from provisioner.kernel.turn import PATIENCE, Turns
from tests.support.children import Child
from tests.support.starters import NEVER, Starter


@pytest.fixture
def one_at_a_time() -> Iterator[Starter]:
    """A starter with one turn that time does not end."""
    starter = Starter(Turns(1, longest=NEVER, patience=NEVER))
    yield starter
    starter.end_all()


def run_all(turns: Turns, count: int) -> int:
    """Start so many, each in a loop and a thread of its own; return how many were in their turn at once at most."""
    now, most = 0, 0
    guard = threading.Lock()

    async def start() -> None:
        nonlocal now, most
        async with turns.turn():
            with guard:
                now += 1
                most = max(most, now)
            await asyncio.sleep(0.001)
            with guard:
                now -= 1

    threads = [threading.Thread(target=lambda: asyncio.run(start())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return most


# -- several event loops -------------------------------------------------------------------------------------------


def test_starts_in_many_threads_have_no_more_turns_than_there_are_together() -> None:
    turns = Turns(2, longest=NEVER, patience=NEVER)
    assert run_all(turns, 12) <= 2
    assert not turns._waiting
    assert not turns._turns


def test_who_waits_in_a_loop_that_has_stopped_holds_up_nobody() -> None:
    now = [0.0]
    turns = Turns(1, longest=NEVER, patience=NEVER, clock=lambda: now[0])
    stopped = asyncio.new_event_loop()
    asked = threading.Event()
    waiting: list[asyncio.Task[None]] = []

    async def wait() -> None:
        async with turns.turn(asked.set):
            pass

    async def until_it_waits() -> None:
        waiting.append(asyncio.create_task(wait()))
        while not asked.is_set():
            await asyncio.sleep(0)

    def a_second_passes() -> None:
        now[0] += 1.0

    async def start() -> None:
        async with turns.turn():
            await asyncio.to_thread(stopped.run_until_complete, until_it_waits())
        async with turns.turn(a_second_passes):
            assert 0 < now[0] < PATIENCE.total_seconds()

    asyncio.run(asyncio.wait_for(start(), 60))
    for task in waiting:
        task.cancel()
    stopped.run_until_complete(asyncio.wait(waiting))
    stopped.close()


def test_a_start_that_was_forgotten_leaves_whatever_is_under_way() -> None:
    """The garbage collector ends it, in any thread, and be it in the midst of a look for a turn."""
    turns = Turns(1, longest=NEVER, patience=NEVER)

    async def start() -> None:
        async with turns.turn():
            await asyncio.Event().wait()

    async def forget() -> None:
        begun = [start() for _ in range(2)]
        for coroutine in begun:
            coroutine.send(None)
        assert (len(turns._turns), len(turns._waiting)) == (1, 1)
        with turns._lock:
            del coroutine
            begun.clear()
            gc.collect()
            assert not turns._turns
        while turns._waiting:
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(forget(), 60))


# -- forks ---------------------------------------------------------------------------------------------------------


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


def test_what_waits_in_the_parent_ends_without_a_word_in_a_forked_process(
    one_at_a_time: Starter,
) -> None:
    waiting: list[Any] = []

    def forget() -> str:
        complaints: list[object] = []
        sys.unraisablehook = complaints.append
        waiting.clear()
        gc.collect()
        return str(complaints)

    async def begin() -> None:
        await one_at_a_time.start("ours")
        waiting.append(one_at_a_time.start("waiting"))
        waiting[0].send(None)

    asyncio.run(begin())
    assert one_at_a_time.turns._waiting
    with Child(forget) as child:
        assert child.said() == "[]"
    waiting[0].close()


def test_a_process_forked_while_a_turn_is_looked_for_can_start_kernels(
    one_at_a_time: Starter,
) -> None:
    async def start_there() -> str:
        await one_at_a_time.start("theirs", "true")
        return "started"

    # As another thread may hold it.
    with one_at_a_time.turns._lock, Child(_in_new_loop(start_there)) as child:
        assert child.said() == "started"


def _in_new_loop(work: Callable[[], object]) -> Callable[[], object]:
    """Make what a forked process can do although it was forked in the midst of an event loop."""

    def do() -> object:
        asyncio.events._set_running_loop(None)
        return asyncio.run(work())  # type: ignore[arg-type]  # a coroutine is what it makes

    return do
