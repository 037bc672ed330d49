"""Kernels with volumes that start at once wait for one another."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from jupyter_client.manager import AsyncKernelManager

from provisioner.kernel import provisioner as kernel
from provisioner.launch import throttle as throttling
from provisioner.launch.throttle import Slot, Throttle
from provisioner.pool.pool import Pool
from tests.support.kernels import environment, install, pid_of, provisioner_of, require_free

SOON = 60.0
BUSY = "while True: pass"
LONG = 10_000.0


class Watched(Throttle):
    """A throttle that shows whether a start waits."""

    is_awaited = False

    async def slot(self, look: Callable[[], object]) -> Slot:
        self.is_awaited = True
        try:
            return await super().slot(look)
        finally:
            self.is_awaited = False


@pytest.fixture
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """One slot, which no time ends."""
    monkeypatch.setattr(throttling, "LONGEST_SECONDS", LONG)
    monkeypatch.setattr(throttling, "PATIENCE_SECONDS", LONG)
    throttle = Watched(1)
    monkeypatch.setattr(kernel, "throttle", throttle)
    return throttle


@contextlib.asynccontextmanager
async def waiting() -> AsyncIterator[
    tuple[AsyncKernelManager, AsyncKernelManager, asyncio.Future[Any]]
]:
    """Start two busy kernels; yield when the second has its volume and waits for nothing but a slot."""
    install("busy", ["python", "-c", BUSY])
    first, second = (AsyncKernelManager(kernel_name="busy") for _ in range(2))
    await first.start_kernel(env=environment("a"))
    start: asyncio.Future[Any] = asyncio.ensure_future(second.start_kernel(env=environment("b")))
    while second.provisioner is None or provisioner_of(second).volume is None:
        await asyncio.sleep(0.01)
    for _ in range(20):
        await asyncio.sleep(0.01)
        assert not start.done()
    yield first, second, start
    await first.shutdown_kernel(now=True)


@pytest.mark.usefixtures("one_at_a_time")
def test_a_kernel_is_launched_when_the_kernel_before_needs_its_core_no_more(here: Pool) -> None:
    async def start_two() -> None:
        async with waiting() as (first, second, start):
            assert not second.has_kernel
            await first.shutdown_kernel(now=True)
            await start
            assert pid_of(second)
            await second.shutdown_kernel(now=True)

    asyncio.run(asyncio.wait_for(start_two(), SOON))
    require_free(here)


@pytest.mark.usefixtures("one_at_a_time")
def test_a_start_that_is_cancelled_while_it_waits_for_a_slot_gives_its_volume_back(
    here: Pool,
) -> None:
    async def start_two() -> None:
        async with waiting() as (_, _, start):
            start.cancel()
            with pytest.raises(asyncio.CancelledError):
                await start
            assert not here.leases.is_held(here.find("b"))

    asyncio.run(asyncio.wait_for(start_two(), SOON))
    require_free(here)


@pytest.mark.parametrize("now", [True, False])
def test_a_kernel_that_is_shut_down_while_its_restart_waits_is_not_launched_without_its_volume(
    here: Pool, one_at_a_time: Watched, now: bool
) -> None:
    install("busy", ["python", "-c", BUSY])

    async def restart_and_shut_down() -> None:
        first, second = (AsyncKernelManager(kernel_name=name) for name in ("busy", "mute"))
        await second.start_kernel(env=environment("b"))
        await first.start_kernel(env=environment("a"))
        restart = asyncio.ensure_future(second.restart_kernel(now=True))
        while not one_at_a_time.is_awaited:
            await asyncio.sleep(0.01)
            assert not restart.done()
        await second.shutdown_kernel(now=now)
        assert not here.leases.is_held(here.find("b"))
        await first.shutdown_kernel(now=True)
        with pytest.raises(asyncio.CancelledError):
            await restart
        assert not second.has_kernel

    asyncio.run(asyncio.wait_for(restart_and_shut_down(), SOON))
    require_free(here)


@pytest.mark.usefixtures("one_at_a_time")
def test_kernels_that_die_at_once_hold_up_nobody(here: Pool) -> None:
    install("dying", ["false"])

    async def start_all() -> None:
        managers = [AsyncKernelManager(kernel_name="dying") for _ in range(5)]
        await asyncio.gather(
            *(m.start_kernel(env=environment(f"{n}")) for n, m in enumerate(managers))
        )
        for manager in managers:
            await manager.shutdown_kernel(now=True)

    asyncio.run(asyncio.wait_for(start_all(), SOON))
    require_free(here)


def test_kernels_that_are_started_in_many_threads_all_start(here: Pool) -> None:
    async def start_and_stop(number: int) -> None:
        manager = AsyncKernelManager(kernel_name="mute")
        await manager.start_kernel(env=environment(f"{number}"))
        await manager.restart_kernel(now=True)
        assert await manager.is_alive()
        await manager.shutdown_kernel(now=True)

    def work(number: int) -> None:
        asyncio.run(asyncio.wait_for(start_and_stop(number), SOON))

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(work, range(24)))
    require_free(here)
