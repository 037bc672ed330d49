"""The launcher: the provisioner that really starts a kernel. It is wrapped, and asked all that concerns the process."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.provisioning.factory import KernelProvisionerFactory
from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase

from provisioner.core.errors import LauncherUnusable
from provisioner.hydration.kernelspec import PROVISIONER


class LauncherWrapper(KernelProvisionerBase):
    """A provisioner whose kernel another one starts, signals and ends.

    It passes on what only the launcher can do or tell. `pre_launch`, `launch_kernel`, `post_launch` and `cleanup`, in
    which there is something to add, are left to the subclass.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Make no launcher yet: what is wrong with it is told by the start, which can clean up."""
        self._wrapped: KernelProvisionerBase | None = None
        super().__init__(**kwargs)

    @abstractmethod
    def _make_launcher(self) -> KernelProvisionerBase:
        """Called once, when the launcher is needed first (`LauncherUnusable` if there is none)."""

    @property
    def _launcher(self) -> KernelProvisionerBase:
        if self._wrapped is None:
            self._wrapped = self._make_launcher()
        return self._wrapped

    def __getattr__(self, name: str) -> Any:
        """Pass on what a launcher has beyond the common face, such as `pid` and `process` of a local one."""
        if name.startswith("_") or self._wrapped is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._wrapped, name)

    @property
    def has_process(self) -> bool:
        """Asked by `KernelManager` after the launch and at shutdown; the launcher's answer."""
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
        """Called by `KernelManager.is_alive`; the launcher's answer, 0 where nothing was started."""
        return 0 if self._wrapped is None else await self._wrapped.poll()

    async def wait(self) -> int | None:
        """Called by `KernelManager` while it shuts a kernel down; the launcher waits."""
        return 0 if self._wrapped is None else await self._wrapped.wait()

    async def send_signal(self, signum: int) -> None:
        """Called by `KernelManager.signal_kernel`; the launcher sends it."""
        await self._launcher.send_signal(signum)

    async def kill(self, restart: bool = False) -> None:
        """Called by `KernelManager.kill_kernel`; the launcher kills."""
        if self._wrapped is not None:
            await self._wrapped.kill(restart=restart)

    async def terminate(self, restart: bool = False) -> None:
        """Called by `KernelManager.finish_shutdown`; the launcher terminates."""
        if self._wrapped is not None:
            await self._wrapped.terminate(restart=restart)

    async def shutdown_requested(self, restart: bool = False) -> None:
        """Called by `KernelManager.request_shutdown`, before the kernel is told; passed on."""
        if self._wrapped is not None:
            await self._wrapped.shutdown_requested(restart=restart)

    def get_shutdown_wait_time(self, recommended: float = 5.0) -> float:
        """Asked by `KernelManager.finish_shutdown`, also of a start that never came to its launcher; its answer."""
        if self._wrapped is None:
            return recommended
        return self._wrapped.get_shutdown_wait_time(recommended)

    def get_stable_start_time(self, recommended: float = 10.0) -> float:
        """Asked by `KernelRestarter`; the launcher's answer."""
        return self._launcher.get_stable_start_time(recommended)

    def resolve_path(self, path: str) -> str | None:
        """Asked by debuggers for a file relative to the kernel's working directory; the launcher's answer."""
        return self._launcher.resolve_path(path)

    async def get_provisioner_info(self) -> dict[str, Any]:
        """Called by applications that persist kernels; what there is to tell, and the launcher's information."""
        info = await super().get_provisioner_info()
        info["launcher"] = await self._launcher.get_provisioner_info()
        return info

    async def load_provisioner_info(self, provisioner_info: dict[str, Any]) -> None:
        """Called by applications that take a persisted kernel over: its process still holds the lease."""
        await super().load_provisioner_info(provisioner_info)
        await self._launcher.load_provisioner_info(provisioner_info["launcher"])


def make_launcher(
    wrapper: LauncherWrapper, name: str, config: Mapping[str, Any], kernelspec: str
) -> KernelProvisionerBase:
    """Make the provisioner that `wrapper` is to wrap.

    It has a copy of the kernelspec, which the manager shares among kernels.

    Parameters
    ----------
    wrapper
        Whose kernel it will start.
    name, config
        The name of the launcher's entry point, and its `config` stanza.
    kernelspec
        The kernelspec's name, for messages.

    Raises
    ------
    LauncherUnusable
        If it is not installed, or gives volumes itself.
    """
    if name == PROVISIONER:
        raise LauncherUnusable(
            f"The launcher of kernelspec {kernelspec!r} is {PROVISIONER!r} itself; "
            'name the provisioner that starts the process, such as "local-provisioner".'
        )
    factory = KernelProvisionerFactory.instance(parent=wrapper.parent)
    spec: KernelSpec = type(wrapper.kernel_spec)(**wrapper.kernel_spec.trait_values())
    stanza = {"provisioner_name": name, "config": dict(config)}
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
            "name one that starts a process."
        )
    return made
