"""VolumeProvisioner: gives any launcher's kernel a volume.

The life of a kernel, as jupyter_client calls it:

* start: `pre_launch`, `launch_kernel`, `post_launch`;
* restart: `kill` or `shutdown_requested`, `wait`, `cleanup(restart=True)`, then as at the start, on the same object;
* shutdown: `shutdown_requested`, `wait` or `kill`, `cleanup(restart=False)`, sometimes twice;
* a start that fails or is cancelled: nothing more is called, so what was taken is given back where it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, TypeVar

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase
from traitlets import TraitError

from provisioner.core import session
from provisioner.core.errors import ConfigError, VolumeError
from provisioner.core.event import Event, Kind
from provisioner.core.progress import StepProgress
from provisioner.core.session import Session, Source
from provisioner.hydration.environment import Environment
from provisioner.hydration.step import Launch
from provisioner.kernel.ports import Ports, keep_ports
from provisioner.kernel.turn import turns
from provisioner.launch.launcher import LauncherWrapper, make_launcher
from provisioner.pool.kernels import Acquired
from provisioner.pool.pool import Pool
from provisioner.pool.pools import pool_of
from provisioner.settings import notebook
from provisioner.settings.options import KernelOptions
from provisioner.settings.pool import load_settings
from provisioner.system.forks import Descriptor
from provisioner.system.work import Work

T = TypeVar("T")


class VolumeProvisioner(KernelOptions, LauncherWrapper):  # type: ignore[metaclass]  # its metaclass is built at run time
    """Wraps the provisioner named `launcher` and gives its kernel a volume.

    Around the launcher it leases the volume, hydrates it, and edits the kernel's working directory, environment and
    command line; starting, signalling and ending the process is the launcher's. Its options are those of the `config`
    stanza in kernel.json.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Take kernel.json's options; what is wrong with them is told by `pre_launch`, which can clean up."""
        self._fault: ConfigError | None = None
        self._pool: Pool | None = None
        self._acquired: Acquired | None = None
        self._named_by: Source | None = None
        self._ports: Ports | None = None
        self._work: Work[Any] | None = None
        self._ready: Any = None
        self._is_shut_down = False
        self._dropped: weakref.finalize[..., Any] | None = None
        options = {
            name: kwargs.pop(name) for name in set(kwargs) - {"parent", "kernel_id", "kernel_spec"}
        }
        super().__init__(**kwargs)
        try:
            self.take(options, self._kernelspec_name)
        except ConfigError as error:
            self._fault = error

    # -- start -----------------------------------------------------------------------------------------------

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Called by `KernelManager.pre_start_kernel` at each start and restart, with the manager's `cwd` and `env`.

        Acquires the volume (once: a restart keeps it, and its lease), lets the launcher prepare, hydrates, and
        returns the launcher's arguments with the volume's working directory, environment and command line. If any
        of it fails or is cancelled, the volume is given back.

        Raises
        ------
        VolumeError
            With one line that says what to do.
        asyncio.CancelledError
            This was cancelled, or the notebook was closed while its kernel was pending.
        """
        env = kwargs.get("env", os.environ)
        self._ready = getattr(self.parent, "ready", None)
        self._is_shut_down = False
        try:
            if self._fault is not None:
                raise self._fault
            acquired = await self._in_thread(lambda cancel: self._acquire(env, cancel))
            self._keep_ports()
            prepared = await self._launcher.pre_launch(**kwargs)
            launch = Launch(tuple(prepared["cmd"]), prepared["env"])
            hydrated = await self._in_thread(
                lambda cancel: self._hydrate(
                    acquired, launch, notebook.locate(env, os.environ), cancel
                )
            )
            return self._in_volume(prepared, hydrated, acquired)
        except BaseException as error:
            await self._give_up(error)
            raise

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Called by `KernelManager.launch_kernel` with what `pre_launch` returned; the launcher starts the process.

        Where many kernels start on this machine at once, it does so in turn.

        Raises
        ------
        asyncio.CancelledError
            The kernel was closed, or shut down during its restart.
        """
        try:
            if not isinstance(self._launcher, LocalProvisioner):
                self._look()
                return await self._launcher.launch_kernel(cmd, **kwargs)
            async with turns.turn(self._look) as turn:
                self._look()
                if self._ports is not None:
                    self._ports.launching(self.kernel_spec.language)
                connection = await self._launch(cmd, kwargs)
                turn.launched(self._launcher.pid)
            return connection
        except BaseException as error:
            await self._give_up(error)
            raise

    async def post_launch(self, **kwargs: Any) -> None:
        """Called by `KernelManager.post_start_kernel` once the process runs; notes it in the lease."""
        await self._launcher.post_launch(**kwargs)
        process = getattr(self._launcher, "pid", None)
        if self._pool is not None and self._acquired is not None and isinstance(process, int):
            self._pool.kernel_is_up(self._acquired, process)

    # -- end -------------------------------------------------------------------------------------------------

    async def cleanup(self, restart: bool = False) -> None:
        """Called by `KernelManager.cleanup_resources` when the process has ended; twice by nbclient, early by voila.

        At a restart the volume stays leased; otherwise it is given back, and a restart that is still under way ends:
        its kernel would have no volume. Never deletes anything.
        """
        self._is_shut_down = not restart
        try:
            if self._wrapped is not None:
                await self._wrapped.cleanup(restart=restart)
        finally:
            if not restart:
                self._let_go_of_ports()
                await self._release()

    # -- the volume ------------------------------------------------------------------------------------------

    @property
    def session(self) -> str | None:
        """The session whose volume the kernel has; None before the start and after the end."""
        return None if self._acquired is None else self._acquired.record.session

    @property
    def volume(self) -> str | None:
        """The path of the kernel's volume; None before the start and after the end."""
        return None if self._acquired is None else str(self._acquired.path)

    async def get_provisioner_info(self) -> dict[str, Any]:
        """Called by applications that persist kernels; the launcher's information and the volume's session."""
        info = await super().get_provisioner_info()
        if self._acquired is not None:
            info["session"] = self._acquired.record.session
        return info

    def _acquire(self, env: Mapping[str, str], cancel: threading.Event) -> Acquired:
        """Find out which session this is and acquire its volume; at a restart, only follow a renamed notebook."""
        pool = self._pool = self._pool or pool_of(load_settings(self.config))
        clues = notebook.gather(
            self.kernel_id,
            env,
            os.environ,
            pool.catalog.names_of(env.get(session.VOLUME_VARIABLE, "")),
        )
        chosen = session.choose(clues)
        if self._acquired is not None:
            self._acquired = self._follow_rename(pool, self._acquired, chosen)
            return self._acquired
        # A server that stops has to end also those starts that wait for a volume.
        pool.events.emit(Event(Kind.ASKED, pool.clock(), chosen.name, kernel=self.kernel_id))
        acquired = pool.acquire(
            chosen.name, self._kernelspec_name, kernel=self.kernel_id, cancel=cancel
        )
        self._acquired, self._named_by = acquired, chosen.source
        # A kernel that dies at every start is dropped without a word; so is a manager that nobody shut down.
        self._dropped = weakref.finalize(self, _release_in_background, pool, acquired)
        self._dropped.atexit = False
        return acquired

    def _follow_rename(self, pool: Pool, acquired: Acquired, chosen: Session) -> Acquired:
        """The binding is made once: a notebook renamed during the session takes its volume along.

        A volume that was asked for by name keeps that name: others may ask for it too. Where the notebook is still
        there under its old name it was saved under another; the volume stays with it.
        """
        old = acquired.record.session
        renamed = chosen.name != old and not os.path.exists(old)
        if renamed and self._named_by is chosen.source is Source.NOTEBOOK:
            record = pool.catalog.relabel(acquired.record.id, chosen.name)
            if record is not None:
                # Of the rest, the table tells what is so for the kernel that came last; several may share the volume.
                return replace(acquired, record=replace(acquired.record, session=record.session))
        return acquired

    def _hydrate(
        self, acquired: Acquired, launch: Launch, path: str | None, cancel: threading.Event
    ) -> Launch:
        assert self._pool is not None
        try:
            environment = Environment(
                self._pool.settings, self, acquired.record, acquired.path, path
            )
            hydrated = environment.hydrate(
                launch,
                lease=acquired.lease_fd,
                progress=self._tell_progress(acquired),
                cancel=cancel,
                clock=self._pool.clock,
            )
        except VolumeError as error:
            self._tell(Kind.FAILED, acquired, message=str(error), code=error.code)
            raise
        seconds = sum(step.took.total_seconds() for step in hydrated.report)
        hit = all(step.hit for step in hydrated.report)
        self._tell(Kind.HYDRATED, acquired, seconds=seconds, hit=hit)
        return hydrated.launch

    def _tell_progress(self, acquired: Acquired) -> StepProgress:
        def tell(step: str, message: str, fraction: float | None = None) -> None:
            self.log.info("Hydrating %r: %s: %s", acquired.record.session, step, message)
            self._tell(
                Kind.HYDRATION_PROGRESS, acquired, step=step, message=message, fraction=fraction
            )

        return tell

    def _tell(self, kind: Kind, acquired: Acquired, **details: Any) -> None:
        assert self._pool is not None
        record = acquired.record
        self._pool.events.emit(
            Event(kind, self._pool.clock(), record.session, record.id, acquired.kernel, details)
        )

    def _in_volume(
        self, prepared: dict[str, Any], hydrated: Launch, acquired: Acquired
    ) -> dict[str, Any]:
        """Return the launcher's arguments as they are for a kernel in its volume."""
        prepared.update(cmd=list(hydrated.argv), env=dict(hydrated.env))
        if self.workdir == "volume":
            prepared["cwd"] = str(acquired.path)
        return prepared

    async def _launch(self, cmd: list[str], popen: Mapping[str, Any]) -> KernelConnectionInfo:
        """Have the launcher start a process of this machine, which inherits the lease."""
        assert self._acquired is not None
        lease_fd = self._acquired.lease_fd
        # Not the pool's own: Python forks where it has something to call in the child (`preexec_fn`), and a forked
        # child lets go of its parent's leases before the kernel's program takes its place.
        with Descriptor(lambda: os.dup(lease_fd), is_passed_on=True) as inherited:
            passed_on = {"pass_fds": (*popen.get("pass_fds", ()), inherited)}
            return await self._launcher.launch_kernel(cmd, **{**popen, **passed_on})

    # -- giving it back --------------------------------------------------------------------------------------

    async def _give_up(self, error: BaseException) -> None:
        """A start has failed or was cancelled: give everything back, and let the server still be able to stop."""
        self._let_go_of_ports()
        try:
            await self._release()
        finally:
            self._tell_manager(error)

    def _keep_ports(self) -> None:
        """They are chosen once: a restart has the same, also one after a start that failed."""
        if self._ports is None:
            self._ports = keep_ports(self.parent, self._launcher)
        else:
            self._ports.keep_again()

    def _let_go_of_ports(self) -> None:
        if self._ports is not None:
            self._ports.let_go()

    async def _release(self) -> None:
        """Give the volume back, once the thread is over that a cancelled start has left in it.

        Both happen in a thread: if this is cancelled in its turn, only the waiting for it ends.
        """
        if self._acquired is None and (self._work is None or self._work.is_over):
            return
        process = getattr(self._wrapped, "pid", None)

        def release(_: threading.Event) -> None:
            acquired, self._acquired = self._acquired, None
            if acquired is not None and self._pool is not None:
                if self._dropped is not None:
                    self._dropped.detach()
                self._pool.release(acquired, process)

        work = self._work = Work(release, after=self._work)
        await work.over()
        work.result()

    def _tell_manager(self, error: BaseException) -> None:
        """Tell jupyter_client what it needs to know of a start that has ended so, and does not find out (8.10)."""
        # MultiKernelManager keeps the id of a failed start among its pending kernels and later tries to shut that
        # kernel down, which it does not know: the server then never exits.
        pending = getattr(getattr(self.parent, "parent", None), "_pending_kernels", None)
        if isinstance(pending, dict):
            pending.pop(self.kernel_id, None)
        # KernelManager tells `ready` of failures only: who waits for a start that was cancelled would wait for ever,
        # and a shutdown trips over a `ready` that is undecided. That of this start: a shutdown meanwhile has its own.
        if self._ready is not None and isinstance(error, asyncio.CancelledError):
            self._ready.cancel()

    # -- waiting ---------------------------------------------------------------------------------------------

    async def _in_thread(self, do: Callable[[threading.Event], T]) -> T:
        """Run blocking work in a thread and return its result; tell it to end when nobody wants the kernel any more.

        Raises
        ------
        asyncio.CancelledError
            This was cancelled (the thread may still be at work then), or the kernel was closed while it was pending.
        """
        work = Work(do, after=self._work)
        self._work = work

        def look() -> None:
            self._mark_active()
            if self._is_unwanted():
                work.cancel()

        try:
            await work.over(look)
        except BaseException:
            work.cancel()
            raise
        if self._is_unwanted():
            # Whatever came of it: an error of our own would be told to `ready`, which takes no word any more.
            raise asyncio.CancelledError("The kernel was closed while it was pending.")
        return work.result()

    def _look(self) -> None:
        """Look around before the launch."""
        self._mark_active()
        if self._is_unwanted():
            raise asyncio.CancelledError("The kernel was closed while it was pending.")

    def _is_unwanted(self) -> bool:
        """Whether the notebook was closed while its kernel was pending: its `ready` tells, or the end of a shutdown.

        That finds no process to end while one is about to be started, and what it cleans up is all it does.
        """
        ready = getattr(self.parent, "ready", None)
        return self._is_shut_down or (ready is not None and bool(ready.cancelled()))

    def _mark_active(self) -> None:
        """A kernel that is being made ready has no connections and no activity; a culler must not take it for idle."""
        with contextlib.suppress(
            TraitError
        ):  # a trait that has no value yet raises when it is read
            if self.parent is not None and getattr(self.parent, "last_activity", None) is not None:
                self.parent.last_activity = datetime.now(timezone.utc)

    # -- kernelspec and launcher -----------------------------------------------------------------------------

    @property
    def _kernelspec_name(self) -> str:
        name = getattr(self.parent, "kernel_name", "") or getattr(self.kernel_spec, "name", "")
        return str(name)

    def _make_launcher(self) -> KernelProvisionerBase:
        return make_launcher(self, self.launcher, self.launcher_config, self._kernelspec_name)


# Whoever asks whether a kernel is a local process (jupyter_client's own tests do) asks for what such a provisioner
# offers, and `__getattr__` passes that on. A virtual subclass: nothing is inherited.
LocalProvisioner.register(VolumeProvisioner)  # type: ignore[attr-defined]  # its ABCMeta is made at run time


def _release_in_background(pool: Pool, acquired: Acquired) -> None:
    """Release from a thread: the garbage collector may run while this one holds the pool's locks."""
    threading.Thread(target=pool.release, args=(acquired,), daemon=True).start()
