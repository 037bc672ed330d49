"""Real kernels through the real provisioner, with a separate root."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_client.manager import AsyncKernelManager
from jupyter_client.multikernelmanager import AsyncMultiKernelManager
from traitlets.config import Config

from provisioner.core.record import Record, State
from provisioner.pool.pool import Pool, pool_of
from provisioner.settings.pool import load_settings
from provisioner.system import lease

ARGV = ("python", "-m", "ipykernel_launcher", "-f", "{connection_file}")


@dataclass(frozen=True)
class World:
    """Jupyter's directories, the root of the volumes, and the environment that kernels are started with."""

    folder: Path
    env: Mapping[str, str]

    @property
    def pool(self) -> Pool:
        """The pool of this process, which the provisioners of the kernels use too."""
        return pool_of(load_settings())

    def declare(self, kernelspec: str, **config: object) -> str:
        """Write a kernelspec that gives volumes; return its name."""
        directory = self.folder / "data/kernels" / kernelspec
        directory.mkdir(parents=True, exist_ok=True)
        stanza = {"provisioner_name": "volume-provisioner", "config": config}
        content = {
            "argv": ARGV,
            "display_name": kernelspec,
            "language": "python",
            "metadata": {"kernel_provisioner": stanza},
        }
        (directory / "kernel.json").write_text(json.dumps(content))
        return kernelspec

    def environment(
        self, session: str | None, env: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Return the environment that a caller passes to a kernel of this session."""
        named = {} if session is None else {"JUPYTER_VOLUME_SESSION": session}
        return {**self.env, **named, **(env or {})}

    @asynccontextmanager
    async def kernel(
        self,
        kernelspec: str,
        session: str | None = None,
        *,
        config: Config | None = None,
        env: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Kernel]:
        """Start a kernel, and shut it down afterwards."""
        manager = AsyncKernelManager(kernel_name=kernelspec, config=config or Config())
        await manager.start_kernel(env=self.environment(session, env))
        try:
            yield Kernel(manager)
        finally:
            await manager.shutdown_kernel(now=True)

    @asynccontextmanager
    async def kernels(self, kernelspec: str) -> AsyncIterator[AsyncMultiKernelManager]:
        """Yield a manager of several kernels, and shut all of them down afterwards."""
        manager = AsyncMultiKernelManager(default_kernel_name=kernelspec)
        try:
            yield manager
        finally:
            await manager.shutdown_all(now=True)

    def record(self, session: str) -> Record:
        return self.pool.find(session)

    def volume(self, session: str) -> Path:
        return self.pool.path(self.record(session))

    def log(self, session: str) -> str:
        """Return the volume's log of hook output."""
        return (self.volume(session) / ".volume/hydration.log").read_text()

    def assert_given_back(self, session: str) -> None:
        """Assert that no kernel has the volume, according to both the table and the lock."""
        assert self.record(session).state is State.STOPPED
        assert not self.is_leased(session)

    def is_leased(self, session: str) -> bool:
        """Whether any process holds the volume's lease."""
        return lease.is_held(self.pool.root.layout.lease(self.record(session).id))


@dataclass(frozen=True)
class Kernel:
    """A running kernel."""

    manager: AsyncKernelManager

    @classmethod
    def of(cls, several: AsyncMultiKernelManager, kernel_id: str) -> Kernel:
        """Return one of the kernels of a manager of several."""
        manager = several.get_kernel(kernel_id)
        assert isinstance(manager, AsyncKernelManager)
        return cls(manager)

    async def ask(self, code: str) -> str:
        """Run code; return what it prints."""
        printed: list[str] = []

        def hear(message: dict[str, Any]) -> None:
            printed.append(message["content"].get("text", ""))

        client = self.manager.client()
        # Without the heartbeat: on a busy machine the client would take one missed beat for the kernel's end.
        client.start_channels(hb=False)
        try:
            await client.wait_for_ready(timeout=90)
            reply = await client.execute_interactive(code, timeout=90, output_hook=hear)
        finally:
            client.stop_channels()
        assert reply["content"]["status"] == "ok", (reply["content"], printed)
        return "".join(printed).strip()

    async def evaluate(self, expression: str, *modules: str) -> Any:
        """Return the value of an expression, through JSON."""
        imports = ", ".join(("json", *modules))
        return json.loads(await self.ask(f"import {imports}; print(json.dumps({expression}))"))


def jupyter_directories(folder: Path) -> dict[str, str]:
    """Make Jupyter's directories, and return the variables that name them."""
    names = ("config", "data", "runtime", "ipython", "home")
    for name in names:
        (folder / name).mkdir(mode=0o700)
    return {
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTER_VOLUMES_ROOT": str(folder / "volumes"),
        "IPYTHONDIR": str(folder / "ipython"),
        "HOME": str(folder / "home"),
        "PATH": os.environ["PATH"],
    }
