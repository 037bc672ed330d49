"""Each workaround for jupyter_server that the server extension needs, as one function.

`tests/server/test_upstream.py` shows for each that the installed jupyter_server (2.21) still needs it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from jupyter_client.multikernelmanager import AsyncMultiKernelManager
from jupyter_server.gateway.gateway_client import GatewayClient
from jupyter_server.serverapp import ServerApp
from traitlets import TraitError
from traitlets.config import Config

KERNEL_SCHEMA = "https://events.jupyter.org/jupyter_server/kernel_actions/v1"

_POLL_SECONDS = 0.05
_SETTLED_SECONDS = 0.5
"""How long after a failed start `MappingKernelManager._async_start_kernel` may still write "starting"."""

_session_type: ContextVar[str | None] = ContextVar("session_type", default=None)


def uses_gateway(serverapp: ServerApp) -> bool:
    """Whether the server runs its kernels on a gateway; makes the default classes of the managers readable.

    An extension has to choose those classes before the server creates the managers (jupyter-server/jupyter_server#207).
    That early, their defaults fail: they read `gateway_config`, which only `ServerApp.init_configurables` sets.
    """
    serverapp.gateway_config = GatewayClient.instance(parent=serverapp)
    return bool(serverapp.gateway_config.gateway_enabled)


def pending_kernels(serverapp: ServerApp) -> Config:
    """Return the configuration that starts kernels in the background; empty if the user configured the mode.

    It is off by default (jupyter-server/jupyter_server#592, #593). A request for a session then takes as long as the
    hydration: proxies break it off, and cells that are run meanwhile are lost.
    """
    manager_class = serverapp.kernel_manager_class
    if not issubclass(manager_class, AsyncMultiKernelManager):
        return Config()
    sections = (serverapp.config.get(kind.__name__, {}) for kind in manager_class.__mro__)
    if any("use_pending_kernels" in section for section in sections):
        return Config()
    return Config({manager_class.__name__: {"use_pending_kernels": True}})


def is_known(manager: Any, kernel_id: str) -> bool:
    """Whether the server's kernel manager runs or starts a kernel.

    While a kernel starts without pending kernels, only the private `_pending_kernels` of `MultiKernelManager` has it.
    And a kernel that dies at every start is dropped without a call to its provisioner
    (`MappingKernelManager._handle_kernel_died`), so that the extension has to look for kernels that are gone.
    """
    return kernel_id in manager or kernel_id in manager._pending_kernels  # noqa: SLF001


async def end_starts(manager: Any, is_ours: Callable[[str], bool], within: float) -> None:
    """End the starts and restarts of kernels with volumes, and forget starts that failed.

    Called when the server stops, just before `ServerApp.cleanup_kernels`, which otherwise raises so that the server
    never exits. `MultiKernelManager._async_shutdown_all` looks for a kernel that starts without pending kernels among
    those that run; and `_async_shutdown_kernel` reads `ready.exception()` of a kernel whose restart is not over.

    A restart is over when the shutdown of its kernel is: that waits for the release of the volume.

    Starts of kernels without a volume (`is_ours`) are not cancelled, because they might leave something behind.
    Waits up to `within` seconds until the starts have released what they took and the others have ended.
    """
    pending = manager._pending_kernels  # noqa: SLF001 - there is no public way
    for kernel_id in set(manager.list_kernel_ids()) - set(pending):
        ready = manager.get_kernel(kernel_id).ready
        if not ready.done() and is_ours(kernel_id):
            ready.cancel()
    clock = asyncio.get_running_loop().time
    deadline = clock() + within
    cancelled: set[str] = set()
    while True:
        starting = {id_: task for id_, task in list(pending.items()) if id_ not in manager}
        # In each round: that a kernel has a volume is known only a moment after its start has begun.
        for kernel_id in set(starting) - cancelled:
            if is_ours(kernel_id):
                cancelled.add(kernel_id)
                starting[kernel_id].cancel()
        for kernel_id, task in starting.items():
            if task.done():
                pending.pop(kernel_id, None)
        unfinished = [task for task in starting.values() if not task.done()]
        if not unfinished or clock() >= deadline:
            return
        await asyncio.wait(unfinished, timeout=min(_POLL_SECONDS, max(deadline - clock(), 0)))


async def show_failed_start(manager: Any, event: dict[str, Any]) -> None:
    """Mark a kernel whose start has failed as dead, with the reason.

    Called for each event of `KERNEL_SCHEMA`. Only `ZMQChannelsWebsocketConnection.prepare` marks it: until a client
    opens the kernel's websocket, REST shows the kernel as "starting", and a client that polls waits for ever. This
    concerns kernels without a volume as well, because the extension makes all starts pending.
    """
    if (event.get("action"), event.get("status")) != ("start", "error"):
        return
    await asyncio.sleep(_SETTLED_SECONDS)
    kernel_id = event.get("kernel_id", "")
    if kernel_id not in manager:
        return
    kernel = manager.get_kernel(kernel_id)
    if getattr(kernel, "execution_state", None) == "starting":
        kernel.execution_state = "dead"
        kernel.reason = event.get("msg", "")


def last_activity(kernel: Any) -> datetime | None:
    """Return when a kernel was last active; None if jupyter_server has not recorded it yet.

    `ServerKernelManager.last_activity` allows no None: reading it before it is set raises (cf. jupyter/notebook#5345).
    """
    try:
        found: datetime | None = getattr(kernel, "last_activity", None)
    except TraitError:
        return None
    return found


async def answers(kernel: Any, within: float) -> bool:
    """Whether a kernel answers on its shell channel within so many seconds; does not count as activity.

    jupyter_server derives a kernel's state from what the kernel publishes (`start_watching_activity`). Requests that
    wait in the kernel's queue publish nothing, and a subshell that becomes idle makes the whole kernel look idle.
    A kernel answers on its shell channel in order: one that answers has no earlier request left.
    """
    answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_reply(message: Any) -> None:
        if not answered.done():
            answered.set_result(None)

    channel = kernel.connect_shell()
    try:
        channel.on_recv(on_reply)
        kernel.session.send(channel, "kernel_info_request")
        done, _ = await asyncio.wait({answered}, timeout=within)
        return bool(done)
    finally:
        channel.close(linger=0)


@contextlib.contextmanager
def session_type(value: str | None) -> Iterator[None]:
    """Make the type of a session known to `SessionManager.get_kernel_env`, which gets only its path and name.

    A context variable, because tasks of other sessions run meanwhile.
    """
    token = _session_type.set(value)
    try:
        yield
    finally:
        _session_type.reset(token)


def current_session_type() -> str | None:
    """Return the type of the session whose kernel's environment is being made."""
    return _session_type.get()
