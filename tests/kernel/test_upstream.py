"""The workarounds for jupyter_client and jupyter_server: each test shows upstream's fault where we do not step in.

A test that fails here is good news: upstream has mended its fault, and the function it names can go.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.factory import KernelProvisionerFactory
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from tornado.web import HTTPError

from provisioner.kernel import upstream
from provisioner.kernel.provisioner import VolumeProvisioner
from tests.support.kernels import MUTE, install, server_kernels

SOON = 20.0


class Slow(LocalProvisioner):
    """A provisioner without our workarounds, whose `pre_launch` waits to be let go and may then fail."""

    begun: asyncio.Event
    go: asyncio.Event
    error: Exception | None = None

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        Slow.begun.set()
        await Slow.go.wait()
        if Slow.error is not None:
            raise Slow.error
        return await super().pre_launch(**kwargs)


@pytest.fixture
def slow(root: object, monkeypatch: pytest.MonkeyPatch) -> type[Slow]:
    """Every kernel of the kernelspec `mute` is started by `Slow`."""
    install("mute", MUTE)
    monkeypatch.setattr(Slow, "begun", asyncio.Event(), raising=False)
    monkeypatch.setattr(Slow, "go", asyncio.Event(), raising=False)
    monkeypatch.setattr(Slow, "error", None)

    def create(
        self: KernelProvisionerFactory, kernel_id: str, kernel_spec: Any, parent: Any
    ) -> Slow:
        return Slow(kernel_id=kernel_id, kernel_spec=kernel_spec, parent=parent)

    monkeypatch.setattr(KernelProvisionerFactory, "create_provisioner_instance", create)
    return Slow


def run(test: Any) -> None:
    """Run the coroutine of a test, within bounds."""
    asyncio.run(asyncio.wait_for(test, SOON))


def test_forget_failed_start_is_needed(slow: type[Slow]) -> None:
    slow.error = ValueError("no")

    async def test() -> None:
        slow.go.set()
        kernels: Any = server_kernels()
        with pytest.raises(ValueError, match="no"):
            await kernels.start_kernel(kernel_name="mute")
        (kernel_id,) = kernels._pending_kernels
        with pytest.raises(HTTPError, match="does not exist"):
            await kernels.shutdown_all(now=True)
        upstream.forget_failed_start(AsyncKernelManager(parent=kernels), kernel_id)
        await kernels.shutdown_all(now=True)

    run(test())


def test_settle_cancelled_start_is_needed(slow: type[Slow]) -> None:
    async def test() -> None:
        manager: Any = AsyncKernelManager(kernel_name="mute")
        start = asyncio.ensure_future(manager.start_kernel())
        await slow.begun.wait()
        start.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await start
        assert not manager.ready.done()
        upstream.settle_cancelled_start(manager.ready, caught.value)
        assert manager.ready.cancelled()

    run(test())


def test_require_wanted_is_needed(slow: type[Slow]) -> None:
    async def test() -> None:
        manager: Any = AsyncKernelManager(kernel_name="mute")
        start = asyncio.ensure_future(manager.start_kernel())
        await slow.begun.wait()
        manager.ready.cancel()
        with pytest.raises(asyncio.CancelledError):
            upstream.require_wanted(manager, shut_down=False)
        await manager.shutdown_kernel(now=True)
        with pytest.raises(asyncio.CancelledError):
            upstream.require_wanted(manager, shut_down=True)
        assert not start.done()
        slow.go.set()
        await asyncio.gather(start, return_exceptions=True)
        assert manager.has_kernel, "a kernel that nobody wants was launched"
        await manager.provisioner.kill()
        await manager.provisioner.wait()

    run(test())


def test_require_wanted_must_raise_a_cancelled_error(slow: type[Slow]) -> None:
    slow.error = ValueError("no")

    async def test() -> None:
        manager: Any = AsyncKernelManager(kernel_name="mute")
        start = asyncio.ensure_future(manager.start_kernel())
        await slow.begun.wait()
        manager.ready.cancel()
        slow.go.set()
        with pytest.raises(asyncio.InvalidStateError):
            await start

    run(test())


def test_mark_active_is_needed(slow: type[Slow]) -> None:
    async def test() -> None:
        kernels: Any = server_kernels(
            use_pending_kernels=True, cull_idle_timeout=60, cull_interval=3600
        )
        kernel_id = await kernels.start_kernel(kernel_name="mute")
        manager = kernels.get_kernel(kernel_id)
        culled: list[str] = []

        async def shut_down(kernel_id: str, **_: Any) -> None:
            culled.append(kernel_id)

        kernels.shutdown_kernel = shut_down
        await slow.begun.wait()
        manager.last_activity = datetime.now(timezone.utc) - timedelta(hours=1)
        await kernels.cull_kernel_if_idle(kernel_id)
        assert culled == [kernel_id], "a kernel that is still starting counts as idle"
        upstream.mark_active(manager)
        culled.clear()
        await kernels.cull_kernel_if_idle(kernel_id)
        assert culled == []
        slow.go.set()
        await kernels._pending_kernels[kernel_id]
        await manager.shutdown_kernel(now=True)

    run(test())


def test_count_as_local_is_needed() -> None:
    assert LocalProvisioner not in VolumeProvisioner.__mro__
    assert issubclass(VolumeProvisioner, LocalProvisioner)


def test_upstream_hides_why_a_connection_file_cannot_be_written(tmp_path: Path) -> None:
    """Without `complete_connection`, the cleanup of such a start raises an error of its own."""
    manager = AsyncKernelManager(connection_file=str(tmp_path / "missing" / "kernel.json"))
    launcher = LocalProvisioner(kernel_id="k", kernel_spec=manager.kernel_spec, parent=manager)

    async def fail() -> None:
        with pytest.raises(FileNotFoundError):
            await launcher.pre_launch()
        with pytest.raises(KeyError):
            await launcher.cleanup(restart=False)
        upstream.complete_connection(manager, launcher)
        await launcher.cleanup(restart=False)

    asyncio.run(fail())
