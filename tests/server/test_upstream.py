"""Each workaround in `server/upstream.py` is still needed: the installed jupyter_server behaves as described there.

A test that fails at the part about jupyter_server means that the workaround can go, and the test with it.
"""

from __future__ import annotations

import asyncio
import inspect
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timezone
from typing import Any

import pytest
from jupyter_client.provisioning.factory import KernelProvisionerFactory
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from jupyter_server.gateway.gateway_client import GatewayClient
from jupyter_server.serverapp import ServerApp
from jupyter_server.services.kernels.kernelmanager import (
    ServerKernelManager,
)
from jupyter_server.services.sessions.sessionmanager import SessionManager
from tornado import web
from traitlets import TraitError

from provisioner.server import upstream
from tests.support.kernels import MUTE, install, server_kernels

pytestmark = pytest.mark.usefixtures("root")


class Held(LocalProvisioner):
    """Waits before each launch until the test releases it, and counts its cleanups."""

    released: asyncio.Event
    is_waiting: bool
    cleanups: int

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        Held.is_waiting = True
        await Held.released.wait()
        return await super().pre_launch(**kwargs)

    async def cleanup(self, restart: bool = False) -> None:
        Held.cleanups += 1
        await super().cleanup(restart)


class Failing(LocalProvisioner):
    """Fails before it launches."""

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        raise RuntimeError("no wheel")


@pytest.fixture
def launched_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[LocalProvisioner]], None]:
    """Let a provisioner launch all kernels."""
    install("mute", MUTE)

    def choose(provisioner: type[LocalProvisioner]) -> None:
        def create(factory: Any, kernel_id: str, spec: Any, parent: Any) -> LocalProvisioner:
            return provisioner(kernel_id=kernel_id, kernel_spec=spec, parent=parent)

        monkeypatch.setattr(KernelProvisionerFactory, "create_provisioner_instance", create)

    return choose


@asynccontextmanager
async def managing(*, pending: bool) -> AsyncIterator[Any]:
    """Run the kernel manager of a server for as long as the block lasts."""
    Held.released, Held.is_waiting, Held.cleanups = asyncio.Event(), False, 0
    manager = server_kernels(use_pending_kernels=pending)
    try:
        yield manager
    finally:
        Held.released.set()
        await upstream.end_starts(manager, lambda kernel_id: True, 5)
        await manager.shutdown_all(now=True)


async def until(look: Callable[[], object]) -> None:
    """Wait until `look` returns something truthy."""
    for _ in range(3000):
        if look():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within 30 s: {look}")


async def ended(task: asyncio.Task[Any]) -> None:
    """Wait for the end of a task, whether it fails or is cancelled."""
    with suppress(asyncio.CancelledError, Exception):
        await task


def test_an_extension_cannot_read_the_default_manager_classes_when_it_has_to_choose_them() -> None:
    try:
        serverapp = ServerApp()
        with pytest.raises(AttributeError, match="gateway_config"):
            serverapp.session_manager_class  # noqa: B018 - the trait's default is what fails
        assert not upstream.uses_gateway(serverapp)
        assert serverapp.session_manager_class is SessionManager
    finally:
        GatewayClient.clear_instance()


def test_starts_are_pending_only_if_configured() -> None:
    assert server_kernels().use_pending_kernels is False


def test_a_server_cannot_end_a_start_that_is_not_pending(launched_by: Any) -> None:
    launched_by(Held)

    async def test() -> None:
        async with managing(pending=False) as manager:
            start = asyncio.create_task(manager.start_kernel(kernel_name="mute"))
            await until(lambda: Held.is_waiting)
            (kernel_id,) = manager._pending_kernels
            assert kernel_id not in manager
            assert upstream.is_known(manager, kernel_id)
            with pytest.raises(web.HTTPError, match="Kernel does not exist"):
                await manager.shutdown_all()
            await upstream.end_starts(manager, lambda kernel_id: True, 5)
            await ended(start)
            await manager.shutdown_all()
            assert not upstream.is_known(manager, kernel_id)

    asyncio.run(test())


@pytest.mark.parametrize("pending", [True, False])
def test_a_server_cannot_end_a_kernel_while_it_restarts(launched_by: Any, pending: bool) -> None:
    launched_by(Held)

    async def test() -> None:
        async with managing(pending=pending) as manager:
            Held.released.set()
            kernel_id = await manager.start_kernel(kernel_name="mute")
            await until(lambda: kernel_id not in manager._pending_kernels)
            Held.released.clear()
            Held.is_waiting = False
            restart = asyncio.create_task(manager.restart_kernel(kernel_id, now=True))
            await until(lambda: Held.is_waiting)
            with pytest.raises(asyncio.InvalidStateError):
                await manager.shutdown_all()
            await upstream.end_starts(manager, lambda kernel_id: True, 5)
            await manager.shutdown_all(now=True)
            restart.cancel()
            await ended(restart)

    asyncio.run(test())


def test_a_failed_start_is_shown_as_starting_until_a_websocket_opens(launched_by: Any) -> None:
    launched_by(Failing)

    async def test() -> None:
        async with managing(pending=True) as manager:
            kernel_id = await manager.start_kernel(kernel_name="mute")
            await until(manager.get_kernel(kernel_id).ready.done)
            await asyncio.sleep(upstream._SETTLED_SECONDS)
            model = manager.kernel_model(kernel_id)
            assert (model["execution_state"], model.get("reason")) == ("starting", None)
            event = {"action": "start", "status": "error", "kernel_id": kernel_id, "msg": "why"}
            await upstream.show_failed_start(manager, event)
            model = manager.kernel_model(kernel_id)
            assert (model["execution_state"], model["reason"]) == ("dead", "why")

    asyncio.run(test())


def test_a_kernel_that_dies_at_every_start_is_dropped_without_a_word_to_its_provisioner(
    launched_by: Any,
) -> None:
    launched_by(Held)

    async def test() -> None:
        async with managing(pending=True) as manager:
            Held.released.set()
            kernel_id = await manager.start_kernel(kernel_name="mute")
            await until(lambda: kernel_id not in manager._pending_kernels)
            kernel = manager.get_kernel(kernel_id)
            manager._handle_kernel_died(kernel_id)
            await asyncio.sleep(0)
            assert not upstream.is_known(manager, kernel_id)
            assert Held.cleanups == 0
            await kernel.shutdown_kernel(now=True)
            assert Held.cleanups == 1

    asyncio.run(test())


def test_the_last_activity_of_a_new_kernel_cannot_be_read() -> None:
    kernel = ServerKernelManager()
    with pytest.raises(TraitError):
        kernel.last_activity  # noqa: B018 - reading it is what fails
    assert upstream.last_activity(kernel) is None
    now = datetime.now(timezone.utc)
    kernel.last_activity = now
    assert upstream.last_activity(kernel) == now


def test_a_kernel_with_a_queued_cell_looks_idle() -> None:
    async def test() -> None:
        async with managing(pending=False) as manager:
            kernel_id = await manager.start_kernel(kernel_name="python3")
            kernel = manager.get_kernel(kernel_id)
            assert await upstream.answers(kernel, 30)
            await until(lambda: kernel.execution_state == "idle")
            active = kernel.last_activity
            assert await upstream.answers(kernel, 30)
            assert kernel.last_activity == active, "asking is no activity"
            await kernel.signal_kernel(signal.SIGSTOP)
            channel = kernel.connect_shell()
            kernel.session.send(channel, "execute_request", {"code": "pass"})
            await asyncio.sleep(0.1)
            assert kernel.execution_state == "idle"
            assert not await upstream.answers(kernel, 0.2)
            await kernel.signal_kernel(signal.SIGCONT)
            assert await upstream.answers(kernel, 30)
            channel.close()

    asyncio.run(test())


def test_the_environment_of_a_kernel_is_made_without_its_sessions_type_and_drive() -> None:
    assert set(inspect.signature(SessionManager.get_kernel_env).parameters) == {
        "self",
        "path",
        "name",
    }
    manager: Any = SessionManager(kernel_manager=server_kernels(root_dir="/"))  # type: ignore[no-untyped-call]  # jupyter_server's
    paths = ("etc/uuid", "RTC:etc/uuid", "s3:etc/uuid")
    names = {manager.get_kernel_env(path, "a.ipynb")["JPY_SESSION_NAME"] for path in paths}
    assert names == {"/etc/a.ipynb", "/a.ipynb"}, "both drives have become the same path"
    with upstream.session_type("notebook"):
        assert upstream.current_session_type() == "notebook"
    assert upstream.current_session_type() is None
