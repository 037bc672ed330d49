"""Starts that are cancelled, or whose notebook is closed: they end without an error and give the volume back."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.multikernelmanager import AsyncMultiKernelManager
from traitlets.config import Config

from provisioner.core.errors import HydrationFailed
from provisioner.core.event import Event, Kind
from provisioner.hydration.steps.overlay.step import Overlay
from provisioner.pool.pool import Pool
from tests.support.kernels import MUTE, REAL, environment, install, require_free
from tests.support.pools import wait_for

SOON = 20.0
"""Seconds within which a cancelled start must end; on an idle machine it takes less than one."""


@pytest.fixture
def errors(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return the errors that this package, jupyter_client and asyncio have logged."""
    return lambda: [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]


def several(*, pending: bool = True) -> AsyncMultiKernelManager:
    """Return the manager of a server's kernels; `errors` sees what it logs."""
    config = Config({"AsyncMultiKernelManager": {"use_pending_kernels": pending}})
    return AsyncMultiKernelManager(config=config, log=logging.getLogger("kernels"))


async def until(what: Callable[[], bool]) -> None:
    """Let the event loop run until `what` returns True."""

    async def look() -> None:
        while not what():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(look(), SOON)


@pytest.fixture
def hydrating(here: Pool, tmp_path: Path) -> Callable[[], bool]:
    """Install the kernelspec `slow`, which hydrates for ever; return a function: has the hydration begun?"""
    begun = tmp_path / "begun"
    install("slow", MUTE, bootstrap_command=["sh", "-c", f"touch {begun}; sleep 300"])
    return begun.exists


@contextlib.asynccontextmanager
async def pending(
    kernelspec: str, begun: Callable[[], bool]
) -> AsyncIterator[tuple[AsyncMultiKernelManager, str, AsyncKernelManager]]:
    """Begin the start of a pending kernel, as a server does; wait until `begun` returns True."""
    kernels = several()
    kernel_id = await kernels.start_kernel(kernel_name=kernelspec, env=environment("a"))
    kernel = kernels.get_kernel(kernel_id)
    assert isinstance(kernel, AsyncKernelManager)
    await until(begun)
    yield kernels, kernel_id, kernel
    await asyncio.wait_for(kernels.shutdown_all(now=True), SOON)
    assert kernel_id not in kernels


# -- as jupyter_client and jupyter_server end starts ---------------------------------------------------------------


async def closed(kernelspec: str, begun: Callable[[], bool]) -> None:
    """Begin a start, and close the notebook while its kernel is pending."""
    async with pending(kernelspec, begun) as (kernels, kernel_id, kernel):
        # At DELETE, jupyter_server cancels the task that waits for `ready`, and with it `ready`.
        kernel.ready.cancel()
        await asyncio.wait_for(kernels.shutdown_kernel(kernel_id), SOON)
        await until(lambda: kernel_id not in kernels)


def test_a_notebook_that_is_closed_while_its_kernel_hydrates_is_no_error(
    here: Pool, hydrating: Callable[[], bool], errors: Callable[[], list[str]]
) -> None:
    asyncio.run(closed("slow", hydrating))
    require_free(here)
    assert errors() == []


def test_a_notebook_that_is_closed_while_its_kernel_waits_for_a_volume_is_no_error(
    here: Pool, another_process: Pool, errors: Callable[[], list[str]], tmp_path: Path
) -> None:
    acquired = another_process.acquire("a", "python3", kernel="theirs")
    settings = tmp_path / "config" / "jupyter_volumes_config.py"
    settings.write_text("c.VolumePool.acquire_timeout = '1h'")
    waiting = threading.Event()
    here.root.on_step = lambda step: waiting.set() if step == "lease" else None
    asyncio.run(closed("mute", waiting.is_set))
    another_process.release(acquired)
    require_free(here)
    assert errors() == []


def test_a_shutdown_that_is_itself_cancelled_ends_the_start_and_is_no_error(
    here: Pool, hydrating: Callable[[], bool], errors: Callable[[], list[str]]
) -> None:
    async def run() -> None:
        async with pending("slow", hydrating) as (kernels, kernel_id, kernel):
            shutdown = asyncio.ensure_future(kernels.shutdown_kernel(kernel_id))
            await asyncio.sleep(0)
            shutdown.cancel()
            await asyncio.wait_for(shutdown, SOON)
            await until(lambda: kernel_id not in kernels)
            assert kernel.ready.done(), "a caller that awaits `ready` would wait for ever"

    asyncio.run(run())
    require_free(here)
    assert errors() == []


def test_a_kernel_that_is_closed_once_its_volume_is_ready_is_not_launched(
    here: Pool, errors: Callable[[], list[str]]
) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        manager = AsyncKernelManager(kernel_name="mute", log=logging.getLogger("kernels"))

        def close(event: Event) -> None:
            if event.kind is Kind.HYDRATED:
                loop.call_soon_threadsafe(manager.ready.cancel)

        unsubscribe = here.events.subscribe(close)
        with pytest.raises(asyncio.CancelledError):
            await manager.start_kernel(env=environment("a"))
        unsubscribe()
        assert not manager.has_kernel

    asyncio.run(run())
    require_free(here)
    assert errors() == []


def test_a_kernel_that_is_shut_down_while_its_restart_hydrates_ends_soon(here: Pool) -> None:
    hydrates = asyncio.Event()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        manager = AsyncKernelManager(kernel_name=REAL)
        await manager.start_kernel(env=environment("a"))
        state = here.path(here.find("a")) / ".volume"
        (state / "hydration.json").unlink()
        with open(state / "hydration.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)

            def notice(event: Event) -> None:
                if event.kind is Kind.HYDRATION_PROGRESS:
                    loop.call_soon_threadsafe(hydrates.set)

            unsubscribe = here.events.subscribe(notice)
            restart = asyncio.ensure_future(manager.restart_kernel(now=True))
            await asyncio.wait_for(hydrates.wait(), SOON)
            await asyncio.wait_for(manager.shutdown_kernel(now=True), SOON)
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(asyncio.shield(restart), SOON)
            unsubscribe()
        assert not manager.has_kernel

    asyncio.run(run())
    require_free(here)


# -- cancelled from outside, and once more -------------------------------------------------------------------------


async def cancelled_twice(start: asyncio.Future[None]) -> None:
    """Cancel a start, and once more before it has ended."""
    start.cancel()
    for _ in range(5):
        await asyncio.sleep(0.01)
        assert not start.done(), "the start must wait for its thread"
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.shield(start), SOON)


@contextlib.contextmanager
def held_at(pool: Pool, step: str) -> Iterator[threading.Event]:
    """Hold the threads that acquire or release a volume at one step; yield an event that says that one is there."""
    there, on = threading.Event(), threading.Event()

    def hold(name: str) -> None:
        if name == step:
            there.set()
            on.wait(60)

    pool.root.on_step = hold
    try:
        yield there
    finally:
        on.set()
        pool.root.on_step = lambda step: None


@pytest.mark.parametrize("step", ["lease", "files", "acquired"])
def test_a_start_cancelled_twice_while_it_acquires_gives_the_volume_back(
    here: Pool, another_process: Pool, step: str
) -> None:
    async def run() -> AsyncKernelManager:
        manager = AsyncKernelManager(kernel_name="mute")
        with held_at(here, step) as there:
            start = asyncio.ensure_future(manager.start_kernel(env=environment("a")))
            await until(there.is_set)
            await cancelled_twice(start)
        await until(lambda: "volume" not in {thread.name for thread in threading.enumerate()})
        return manager

    # The manager lives on, so the start gave the volume back, and not the garbage collector.
    manager = asyncio.run(run())
    require_free(here)
    require_free(another_process)
    assert not manager.has_kernel


def test_a_start_cancelled_twice_while_it_hydrates_keeps_the_volume_until_its_thread_has_ended(
    here: Pool, another_process: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    hydrate, writing = Overlay.hydrate, Lock()

    def hydrate_with_lock(*arguments: Any) -> None:
        with writing:
            hydrate(*arguments)

    monkeypatch.setattr(Overlay, "hydrate", hydrate_with_lock)

    async def run() -> None:
        manager = AsyncKernelManager(kernel_name=REAL)
        with writing:
            start = asyncio.ensure_future(manager.start_kernel(env=environment("a")))
            await until(lambda: here.root.registry.names.find("a") is not None)
            record = here.path(here.find("a")) / ".volume" / "hydration.json"
            await until(lambda: record.is_file() and "begun" in record.read_text())
            await cancelled_twice(start)
            assert another_process.leases.is_held(another_process.find("a")), (
                "a thread writes in it"
            )
        await until(lambda: not another_process.leases.is_held(another_process.find("a")))
        assert not manager.has_kernel

    asyncio.run(run())
    require_free(here)


def test_a_start_cancelled_while_it_gives_the_volume_back_has_given_it_back(here: Pool) -> None:
    install("failing", MUTE, bootstrap_command=["false"])

    async def run() -> None:
        kernels = several(pending=False)
        with held_at(here, "release") as there:
            start = asyncio.ensure_future(
                kernels.start_kernel(kernel_name="failing", env=environment("a"))
            )
            await until(there.is_set)
            start.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(asyncio.shield(start), SOON)
            assert kernels._pending_kernels == {}, "the server could never stop"
        await asyncio.to_thread(wait_for, lambda: not here.leases.is_held(here.find("a")))
        await asyncio.wait_for(kernels.shutdown_all(now=True), SOON)

    asyncio.run(run())
    require_free(here)


def test_a_kernel_can_be_started_again_at_once_after_its_start_was_cancelled_twice(
    here: Pool,
) -> None:
    """The same provisioner serves both starts: the late work of the first does not disturb the second."""

    async def run() -> None:
        manager = AsyncKernelManager(kernel_name="mute")
        with held_at(here, "files") as there:
            start = asyncio.ensure_future(manager.start_kernel(env=environment("a")))
            await until(there.is_set)
            await cancelled_twice(start)
            again = asyncio.ensure_future(manager.start_kernel(env=environment("a")))
            await asyncio.sleep(0.05)
        await asyncio.wait_for(again, SOON)
        try:
            assert here.leases.is_held(here.find("a"))
            holder = here.holder(here.find("a"))
            assert holder is not None
            assert holder.kernels == (manager.kernel_id,)
        finally:
            await manager.shutdown_kernel(now=True)

    asyncio.run(run())
    require_free(here)


def test_a_start_that_fails_raises_its_own_error(
    here: Pool, errors: Callable[[], list[str]]
) -> None:
    install("failing", MUTE, bootstrap_command=["false"])

    async def run() -> None:
        kernels = several()
        kernel_id = await kernels.start_kernel(kernel_name="failing", env=environment("a"))
        ready = kernels.get_kernel(kernel_id).ready
        assert isinstance(ready, asyncio.Future)
        with pytest.raises(HydrationFailed, match="exit code 1"):
            await ready
        await kernels.shutdown_kernel(kernel_id)
        assert kernel_id not in kernels
        with pytest.raises(HydrationFailed, match="exit code 1"):
            await several(pending=False).start_kernel(kernel_name="failing", env=environment("a"))

    asyncio.run(run())
    require_free(here)
    assert not any("Invalid" in line for line in errors())
