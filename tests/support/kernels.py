"""Kernels for tests: real ones that answer, and mute ones for tests that only need a process."""

from __future__ import annotations

import ast
import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from traitlets.config import Config

from provisioner.core.record import State
from provisioner.core.session import SESSION_VARIABLE
from provisioner.hydration.kernelspec import PROVISIONER
from provisioner.kernel.provisioner import VolumeProvisioner
from provisioner.pool.pool import Pool

REAL = "python3-volume"
"""The kernelspec of a real kernel."""

MUTE = ["sleep", "600"]
"""The command line of a kernel that runs and never answers."""


def server_kernels(**traits: Any) -> Any:
    """Return the kernel manager of a Jupyter server.

    Its ZeroMQ context is left to the end of the process: `MultiKernelManager.__del__` would wait, in the midst of
    whichever test the garbage is collected in, for sockets that nobody closes.
    """
    manager = AsyncMappingKernelManager(**traits)  # type: ignore[no-untyped-call]  # jupyter_server's
    _contexts.append(manager.context)
    manager._created_context = False
    return manager


_contexts: list[Any] = []


def install(name: str, argv: list[str], language: str = "none", /, **options: object) -> Path:
    """Write a kernelspec with volumes for the user of this test; return its kernel.json."""
    content = {
        "argv": argv,
        "display_name": name,
        "language": language,
        "metadata": {
            "kernel_provisioner": {"provisioner_name": PROVISIONER, "config": options},
        },
    }
    path = Path(os.environ["JUPYTER_DATA_DIR"]) / "kernels" / name / "kernel.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def environment(session: str | None = None, **variables: str) -> dict[str, str]:
    """Return the environment that a caller gives to a kernel."""
    named = {} if session is None else {SESSION_VARIABLE: session}
    return {**os.environ, **named, **variables}


def provisioner_of(manager: KernelManager) -> VolumeProvisioner:
    """Return the provisioner of a kernel that was started."""
    provisioner = manager.provisioner
    assert isinstance(provisioner, VolumeProvisioner)
    return provisioner


def pid_of(manager: KernelManager) -> int:
    """Return the id of the process that a kernel has, or had last."""
    pid = getattr(provisioner_of(manager)._launcher, "pid", None)
    assert isinstance(pid, int)
    return pid


def process_of(manager: KernelManager) -> psutil.Process:
    """Return the process of a kernel."""
    return psutil.Process(pid_of(manager))


@contextlib.contextmanager
def kernel(
    name: str = "mute",
    session: str | None = "a",
    *,
    config: Config | None = None,
    **options: Any,
) -> Iterator[KernelManager]:
    """Run a kernel within the block; shut it down at the end unless the test has."""
    manager = KernelManager(kernel_name=name, config=config or Config())
    options.setdefault("env", environment(session))
    manager.start_kernel(**options)
    try:
        yield manager
    finally:
        if manager.has_kernel:
            manager.shutdown_kernel(now=True)
        manager.context.destroy(linger=0)


@contextlib.contextmanager
def client_of(manager: KernelManager) -> Iterator[BlockingKernelClient]:
    """Yield a client of a real kernel that is up."""
    client = manager.client()
    assert isinstance(client, BlockingKernelClient)
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        yield client
    finally:
        client.stop_channels()


def ask(client: BlockingKernelClient, expression: str, code: str = "") -> Any:
    """Run code in a kernel, then return the value of an expression; its `repr` must be a literal."""
    reply: Mapping[str, Any] = client.execute(
        code, user_expressions={"value": expression}, reply=True, timeout=60
    )
    assert reply["content"]["status"] == "ok", reply["content"]
    value = reply["content"]["user_expressions"]["value"]
    assert value["status"] == "ok", value
    return ast.literal_eval(value["data"]["text/plain"])


def session_with(**options: Any) -> str | None:
    """Return the session of a kernel that is started with these options."""
    with kernel(session=None, **options) as manager:
        return provisioner_of(manager).session


def require_free(pool: Pool) -> None:
    """Require that no volume is in use."""
    assert [r.session for r in pool.volumes() if pool.leases.is_held(r)] == []
    assert [r.session for r in pool.volumes() if r.state is State.ACTIVE] == []
