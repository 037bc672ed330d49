"""Kernels that start at once: as many at a time as there are cores, and none waits for long."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.launch import throttle as throttling
from provisioner.launch.throttle import Slot, Throttle, cores

BUSY = [sys.executable, "-c", "while True: pass"]
SOON = 60.0


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time ends a slot or the waiting for one."""
    monkeypatch.setattr(throttling, "LONGEST_SECONDS", 1000.0)
    monkeypatch.setattr(throttling, "PATIENCE_SECONDS", 1000.0)


@contextlib.contextmanager
def running(*command: str) -> Iterator[int]:
    """Run a process; yields its number."""
    process = subprocess.Popen(command)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def nothing() -> None:
    """Look at nothing."""


async def is_refused(throttle: Throttle) -> bool:
    """Whether a start has to wait."""
    try:
        await asyncio.wait_for(throttle.slot(nothing), 0.3)
    except asyncio.TimeoutError:
        return True
    return False


def test_a_start_waits_while_another_kernel_needs_the_core() -> None:
    async def run() -> None:
        throttle = Throttle(1)
        slot = await throttle.slot(nothing)
        assert await is_refused(throttle), "it is being launched"
        with running(*BUSY) as process:
            slot.launched(process)
            assert await is_refused(throttle)
        await asyncio.wait_for(throttle.slot(nothing), SOON)

    asyncio.run(run())


def test_a_kernel_that_sleeps_holds_up_nobody() -> None:
    async def run() -> None:
        throttle = Throttle(1)
        with running("sleep", "600") as process:
            (await throttle.slot(nothing)).launched(process)
            await asyncio.wait_for(throttle.slot(nothing), SOON)

    asyncio.run(run())


def test_a_kernel_that_has_ended_needs_no_second_look() -> None:
    """Else the third of several quick starts, one after the other, would wait."""
    with running("sleep", "600") as process:
        slot = Slot(until=1000.0)
        slot.launched(process)
        assert not slot.is_over(1.0)
    assert slot.is_over(1.0)


def test_a_launch_that_failed_holds_up_nobody() -> None:
    async def run() -> None:
        throttle = Throttle(1)
        (await throttle.slot(nothing)).launched(None)
        assert not await is_refused(throttle)

    asyncio.run(run())


def test_there_are_as_many_slots_as_asked_for() -> None:
    async def run() -> None:
        throttle = Throttle(2)
        await throttle.slot(nothing)
        assert not await is_refused(throttle)
        assert await is_refused(throttle)

    asyncio.run(run())


def test_a_kernel_that_computes_for_long_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttling, "LONGEST_SECONDS", 0.1)

    async def run() -> None:
        throttle = Throttle(1)
        with running(*BUSY) as process:
            (await throttle.slot(nothing)).launched(process)
            await asyncio.wait_for(throttle.slot(nothing), SOON)

    asyncio.run(run())


def test_a_start_that_has_waited_for_long_waits_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttling, "PATIENCE_SECONDS", 0.1)

    async def run() -> None:
        throttle = Throttle(1)
        await throttle.slot(nothing)
        await asyncio.wait_for(throttle.slot(nothing), SOON)

    asyncio.run(run())


def test_what_looks_around_may_end_the_waiting() -> None:
    def refuse() -> None:
        raise ValueError("no")

    async def run() -> None:
        throttle = Throttle(1)
        await throttle.slot(nothing)
        with pytest.raises(ValueError, match="no"):
            await throttle.slot(refuse)

    asyncio.run(run())


def test_event_loops_of_different_threads_share_the_slots() -> None:
    async def run() -> None:
        throttle = Throttle(1)
        asyncio_run = asyncio.to_thread(asyncio.run, throttle.slot(nothing))
        slot = await asyncio_run
        assert await is_refused(throttle)
        slot.launched(None)
        assert not await is_refused(throttle)

    asyncio.run(run())


def test_a_container_has_its_share_of_the_cores(tmp_path: Path) -> None:
    share = tmp_path / "cpu.max"
    all_of_them = len(os.sched_getaffinity(0))
    assert cores(share) == all_of_them
    for text, expected in (("max 100000", all_of_them), ("50000 100000", 1), ("1 x", all_of_them)):
        share.write_text(text)
        assert cores(share) == expected
