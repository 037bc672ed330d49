"""Kernels with volumes that start at once do so in turn."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from jupyter_client.manager import AsyncKernelManager

from provisioner import kernel
from provisioner.pool import Pool
from provisioner.turn import Turns

from .kernels import environment, install, pid_of, require_free

BUSY = ["python", "-c", "while True: pass"]


@pytest.fixture
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """One turn, which no time ends."""
    monkeypatch.setattr(kernel, "turns", Turns(1, clock=lambda: 0.0))


async def _waits(start: asyncio.Future[Any], manager: AsyncKernelManager) -> None:
    """Wait until a start has its volume and waits for nothing but its turn."""
    provisioner = None
    while provisioner is None or provisioner.volume is None:  # type: ignore[attr-defined]  # ours
        await asyncio.sleep(0.01)
        provisioner = manager.provisioner
    for _ in range(20):
        await asyncio.sleep(0.01)
        assert not start.done()


@pytest.mark.usefixtures("one_at_a_time")
def test_a_kernel_is_launched_when_the_one_before_needs_its_core_no_more(here: Pool) -> None:
    install("busy", BUSY)

    async def start_two() -> None:
        first, second = (AsyncKernelManager(kernel_name="busy") for _ in range(2))
        await first.start_kernel(env=environment("a"))
        start: asyncio.Future[Any] = asyncio.ensure_future(
            second.start_kernel(env=environment("b"))
        )
        await _waits(start, second)
        assert not second.has_kernel
        await first.shutdown_kernel(now=True)
        await start
        assert pid_of(second)
        await second.shutdown_kernel(now=True)

    asyncio.run(asyncio.wait_for(start_two(), 60))
    require_free(here)


@pytest.mark.usefixtures("one_at_a_time")
def test_a_start_that_is_cancelled_while_it_waits_for_its_turn_gives_its_volume_back(
    here: Pool,
) -> None:
    install("busy", BUSY)

    async def start_two() -> None:
        first, second = (AsyncKernelManager(kernel_name="busy") for _ in range(2))
        await first.start_kernel(env=environment("a"))
        start: asyncio.Future[Any] = asyncio.ensure_future(
            second.start_kernel(env=environment("b"))
        )
        await _waits(start, second)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        assert not here.is_in_use(here.find("b"))
        await first.shutdown_kernel(now=True)

    asyncio.run(asyncio.wait_for(start_two(), 60))
    require_free(here)
