"""VolumeProvisioner: gives any launcher's kernel a volume.

The life of a kernel, as jupyter_client calls it:

* start: `pre_launch`, `launch_kernel`, `post_launch`;
* restart: `kill` or `shutdown_requested`, `wait`, `cleanup(restart=True)`, then as at the start, on the same object;
* shutdown: `shutdown_requested`, `wait` or `kill`, `cleanup(restart=False)`, sometimes twice;
* a start that fails or is cancelled: jupyter_client calls nothing more, so the method that fails gives the volume back.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from provisioner.core.errors import ConfigError
from provisioner.hydration.step import Launch
from provisioner.kernel.start import Start
from provisioner.kernel.upstream import complete_connection, count_as_local
from provisioner.kernel.volume import KernelVolume
from provisioner.launch.launcher import LauncherWrapper, is_stock, kernel_within
from provisioner.launch.ports import HeldPorts
from provisioner.launch.throttle import throttle
from provisioner.settings.options import KernelOptions


class VolumeProvisioner(LauncherWrapper):
    """Wraps the provisioner named `launcher` and gives its kernel a volume.

    Around the launcher it leases the volume, hydrates it, and edits the kernel's working directory, environment and
    command line. The launcher starts, signals and ends the process.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Take kernel.json's options; `pre_launch` raises what is wrong with them, because it can clean up."""
        given = ("parent", "kernel_id", "kernel_spec")
        super().__init__(**{name: kwargs.pop(name) for name in given if name in kwargs})
        self.options = KernelOptions(config=self.config)
        self._fault: ConfigError | None = None
        try:
            self.options.take(kwargs, self.kernelspec_name)
        except ConfigError as error:
            self._fault = error
        self._ports = HeldPorts()
        self._start = Start(self.parent, self.kernel_id)
        self._volume = KernelVolume(
            self.kernel_id, self.kernelspec_name, self.options, self.config, self.log
        )

    # -- start -----------------------------------------------------------------------------------------------

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Called by `KernelManager.pre_start_kernel` at each start and restart, with the manager's `cwd` and `env`.

        Acquires the volume (once: a restart keeps it and its lease) and hydrates it. The stock launcher prepares after
        that, so that the ports it chooses are fresh; any other launcher before, because it may choose the interpreter.
        Returns the launcher's arguments with the volume's working directory, environment and command line. If any of it
        fails or is cancelled, the volume is given back.

        Raises
        ------
        VolumeError
            With one line that says what to do.
        asyncio.CancelledError
            This was cancelled, or the notebook was closed while its kernel was pending.
        """
        env = kwargs.get("env", os.environ)
        self._start.begin()
        try:
            if self._fault is not None:
                raise self._fault
            launcher = self._launcher
            acquired = await self._start.run(lambda cancel: self._volume.acquire(env, cancel))
            launch = await self._declared_launch(**kwargs)
            if is_stock(launcher):
                hydrated = await self._hydrate(launch, env)
                prepared = await launcher.pre_launch(**kwargs)
                self._ports.hold(launcher.connection_info)
            else:
                prepared = await launcher.pre_launch(**kwargs)
                launch = kernel_within(launch, prepared)
                hydrated = await self._hydrate(launch, env)
        except BaseException as error:
            await self._give_up(error)
            raise
        around = prepared["cmd"][: len(prepared["cmd"]) - len(launch.argv)]
        prepared.update(cmd=[*around, *hydrated.argv], env=dict(hydrated.env))
        if self.options.workdir == "volume":
            prepared["cwd"] = str(acquired.path)
        return prepared

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Called by `KernelManager.launch_kernel` with what `pre_launch` returned; the launcher starts the process.

        A process of this machine waits for a slot where many start at once, and inherits the lease.

        Raises
        ------
        asyncio.CancelledError
            The kernel was closed, or shut down during its restart.
        """
        try:
            if not isinstance(self._launcher, LocalProvisioner):
                self._start.require_wanted()
                return await self._launcher.launch_kernel(cmd, **kwargs)
            slot = await throttle.slot(self._start.require_wanted)
            try:
                self._ports.before_launch(self.kernel_spec.language)
                with self._volume.inherited_lease() as lease:
                    kwargs["pass_fds"] = (*kwargs.get("pass_fds", ()), lease)
                    return await self._launcher.launch_kernel(cmd, **kwargs)
            finally:
                slot.launched(self._launcher.pid)
        except BaseException as error:
            await self._give_up(error)
            raise

    async def post_launch(self, **kwargs: Any) -> None:
        """Called by `KernelManager.post_start_kernel` once the process runs; notes it in the lease."""
        await self._launcher.post_launch(**kwargs)
        self._volume.is_up(getattr(self._launcher, "pid", None))

    async def _hydrate(self, launch: Launch, env: Mapping[str, str]) -> Launch:
        return await self._start.run(lambda cancel: self._volume.hydrate(launch, env, cancel))

    # -- end -------------------------------------------------------------------------------------------------

    async def cleanup(self, restart: bool = False) -> None:
        """Called by `KernelManager.cleanup_resources` when the process has ended.

        nbclient calls it twice, and voila before the start
        (https://github.com/voila-dashboards/voila/issues/1291). At a restart the volume stays leased; otherwise it is
        given back, and a restart that is still under way ends: its kernel would have no volume. It deletes nothing.
        """
        if not restart:
            self._start.shut_down()
        try:
            if self._wrapped is not None:
                await self._wrapped.cleanup(restart=restart)
        finally:
            if not restart:
                self._ports.let_go()
                await self._release()

    async def _give_up(self, error: BaseException) -> None:
        """Give everything back after a start that failed or was cancelled, and let the server still be able to stop."""
        self._ports.let_go()
        complete_connection(self.parent, self._wrapped)
        try:
            await self._release()
        finally:
            self._start.failed(error)

    async def _release(self) -> None:
        process = getattr(self._wrapped, "pid", None)
        await self._start.finish(lambda: self._volume.release(process))

    # -- the volume ------------------------------------------------------------------------------------------

    @property
    def session(self) -> str | None:
        """The session whose volume the kernel has; None before the start and after the end."""
        acquired = self._volume.acquired
        return None if acquired is None else acquired.record.session

    @property
    def volume(self) -> str | None:
        """The path of the kernel's volume; None before the start and after the end."""
        acquired = self._volume.acquired
        return None if acquired is None else str(acquired.path)

    async def get_provisioner_info(self) -> dict[str, Any]:
        """Called by applications that persist kernels; returns the launcher's information and the session."""
        info = await super().get_provisioner_info()
        if self.session is not None:
            info["session"] = self.session
        return info

    def _load_config(self, *_: Any, **__: Any) -> None:
        """Called by traitlets, which would warn: `options` reads the section `VolumeProvisioner`."""


count_as_local(VolumeProvisioner)
