"""The launcher: the provisioner that really starts a kernel, and the wrapper that delegates to it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.provisioning.factory import KernelProvisionerFactory
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase

from provisioner.core.errors import LauncherUnusable
from provisioner.hydration.kernelspec import PROVISIONER, Stanza
from provisioner.hydration.step import Launch
from provisioner.settings.options import KernelOptions


class LauncherWrapper(KernelProvisionerBase):
    """A provisioner that delegates to another one: the launcher, which starts, signals and ends the kernel.

    The subclass sets `options`, and implements what it adds something to: `pre_launch`, `launch_kernel`, `post_launch`
    and `cleanup`.
    """

    options: KernelOptions

    def __init__(self, **kwargs: Any) -> None:
        """Make no launcher yet: the start does, because it can clean up if that fails."""
        self._wrapped: KernelProvisionerBase | None = None
        super().__init__(**kwargs)

    @property
    def _launcher(self) -> KernelProvisionerBase:
        """The launcher, made when it is first needed; raises `LauncherUnusable` if there is none."""
        if self._wrapped is None:
            self._wrapped = _made(self)
        return self._wrapped

    def __getattr__(self, name: str) -> Any:
        """Return what a launcher has beyond the base class, such as `pid` and `process` of a local one."""
        if name.startswith("_") or self._wrapped is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._wrapped, name)

    @property
    def kernelspec_name(self) -> str:
        """The name of the kernelspec, for messages and for the volume's record."""
        name = getattr(self.parent, "kernel_name", "") or getattr(self.kernel_spec, "name", "")
        return str(name)

    async def _declared_launch(self, **kwargs: Any) -> Launch:
        """Return the launch that the kernelspec declares, given what the manager gave to `pre_launch`."""
        extra = kwargs.get("extra_arguments", [])
        if self.parent is None:
            argv = [*self.kernel_spec.argv, *extra]
        else:
            # Steps see the file's name in the command line; jupyter_client chooses it only when it writes the file.
            self.parent.connection_file = self.parent.connection_file or os.path.join(
                tempfile.gettempdir(), f"kernel-{self.kernel_id}.json"
            )
            argv = self.parent.format_kernel_cmd(extra_arguments=extra)
        prepared = await super().pre_launch(**kwargs)
        return Launch(tuple(argv), prepared["env"])

    @property
    def has_process(self) -> bool:
        """Read by `KernelManager` after the launch and at shutdown; False without a launcher."""
        return self._wrapped is not None and self._wrapped.has_process

    @property
    def connection_info(self) -> KernelConnectionInfo:
        """The kernel's connection, as the launcher made it in `pre_launch`."""
        return {} if self._wrapped is None else self._wrapped.connection_info

    @connection_info.setter
    def connection_info(self, value: KernelConnectionInfo) -> None:
        if self._wrapped is not None:
            self._wrapped.connection_info = value

    async def poll(self) -> int | None:
        """Called by `KernelManager.is_alive`; returns 0 where nothing was started."""
        return 0 if self._wrapped is None else await self._wrapped.poll()

    async def wait(self) -> int | None:
        """Called by `KernelManager` while it shuts a kernel down; returns 0 where nothing was started."""
        return 0 if self._wrapped is None else await self._wrapped.wait()

    async def send_signal(self, signum: int) -> None:
        """Called by `KernelManager.signal_kernel`."""
        await self._launcher.send_signal(signum)

    async def kill(self, restart: bool = False) -> None:
        """Called by `KernelManager.kill_kernel`."""
        if self._wrapped is not None:
            await self._wrapped.kill(restart=restart)

    async def terminate(self, restart: bool = False) -> None:
        """Called by `KernelManager.finish_shutdown`."""
        if self._wrapped is not None:
            await self._wrapped.terminate(restart=restart)

    async def shutdown_requested(self, restart: bool = False) -> None:
        """Called by `KernelManager.request_shutdown`, after it sent the kernel a shutdown request."""
        if self._wrapped is not None:
            await self._wrapped.shutdown_requested(restart=restart)

    def get_shutdown_wait_time(self, recommended: float = 5.0) -> float:
        """Called by `KernelManager.finish_shutdown`, also where a start failed before it had a launcher."""
        if self._wrapped is None:
            return recommended
        return self._wrapped.get_shutdown_wait_time(recommended)

    def get_stable_start_time(self, recommended: float = 10.0) -> float:
        """Called by `KernelRestarter`."""
        return self._launcher.get_stable_start_time(recommended)

    def resolve_path(self, path: str) -> str | None:
        """Called by debuggers for a file relative to the kernel's working directory."""
        return self._launcher.resolve_path(path)

    async def get_provisioner_info(self) -> dict[str, Any]:
        """Called by applications that persist kernels; the launcher's information is nested in the wrapper's."""
        info = await super().get_provisioner_info()
        info["launcher"] = await self._launcher.get_provisioner_info()
        return info

    async def load_provisioner_info(self, provisioner_info: dict[str, Any]) -> None:
        """Called by applications that take over a persisted kernel, whose process still holds the lease."""
        await super().load_provisioner_info(provisioner_info)
        await self._launcher.load_provisioner_info(provisioner_info["launcher"])


def is_stock(launcher: KernelProvisionerBase) -> bool:
    """Whether a launcher prepares as `LocalProvisioner` does: what the kernelspec declares, and ports."""
    return type(launcher).pre_launch is LocalProvisioner.pre_launch


def kernel_within(declared: Launch, prepared: Mapping[str, Any]) -> Launch:
    """Return the kernel's own launch in what a launcher prepared, without a program that it runs under (`srun`)."""
    command, program = tuple(prepared["cmd"]), declared.argv[:1]
    begin = command.index(program[0]) if program and program[0] in command else 0
    return Launch(command[begin:], prepared["env"])


def _made(wrapper: LauncherWrapper) -> KernelProvisionerBase:
    """Make the launcher, with a copy of the kernelspec, because the manager shares the original among kernels."""
    name, kernelspec = wrapper.options.launcher, wrapper.kernelspec_name
    factory = KernelProvisionerFactory.instance(parent=wrapper.parent)
    spec: KernelSpec = type(wrapper.kernel_spec)(**wrapper.kernel_spec.trait_values())
    stanza = Stanza(name, wrapper.options.launcher_config).metadata()
    spec.metadata = {**spec.metadata, "kernel_provisioner": stanza}
    try:
        made = factory.create_provisioner_instance(wrapper.kernel_id, spec, wrapper.parent)
    except ModuleNotFoundError as error:
        known = sorted(set(factory.get_provisioner_entries()) - {PROVISIONER})
        raise LauncherUnusable(
            f"The launcher {name!r} of kernelspec {kernelspec!r} is not installed; "
            f"install its package or use one of {', '.join(known)}."
        ) from error
    if isinstance(made, LauncherWrapper):
        raise LauncherUnusable(
            f"The launcher {name!r} of kernelspec {kernelspec!r} gives volumes itself; "
            'name one that starts the process, such as "local-provisioner".'
        )
    return made
