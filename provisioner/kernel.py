"""VolumeProvisioner: gives any launcher's kernel a volume.

The life of a kernel, as jupyter_client calls it:

* start: `pre_launch`, `launch_kernel`, `post_launch`;
* restart: `kill` or `shutdown_requested`, `wait`, `cleanup(restart=True)`, then as at the start, on the same object;
* shutdown: `shutdown_requested`, `wait` or `kill`, `cleanup(restart=False)`, sometimes twice;
* a start that fails: nothing more is called, so what was taken is given back where it fails.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, TypeVar

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.provisioning.factory import KernelProvisionerFactory
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase
from traitlets import TraitError

from . import environment, notebook, session
from .config import load_settings
from .environment import PROVISIONER
from .errors import ConfigError, LauncherUnusable, VolumeError
from .event import Event, Kind
from .hydration.step import Launch, Progress
from .options import KernelOptions
from .pool import Acquired, Pool, pool_of
from .session import Session, Source

T = TypeVar("T")

_WATCH_SECONDS = 0.2
"""How often a start that is under way looks whether anybody still wants it."""


class VolumeProvisioner(KernelOptions, KernelProvisionerBase):  # type: ignore[metaclass]  # its metaclass is built at run time
    """Wraps the provisioner named `launcher` and gives its kernel a volume.

    Around the launcher it leases the volume, hydrates it, and edits the kernel's working directory, environment and
    command line; starting, signalling and ending the process is the launcher's. Its options are those of the `config`
    stanza in kernel.json.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Take kernel.json's options; what is wrong with them is told by `pre_launch`, which can clean up."""
        self._fault: ConfigError | None = None
        self._wrapped: KernelProvisionerBase | None = None
        self._acquired: Acquired | None = None
        self._pool: Pool | None = None
        self._named_by: Source | None = None
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
        """
        try:
            if self._fault is not None:
                raise self._fault
            env = kwargs.get("env", os.environ)
            acquired = await self._in_thread(lambda cancel: self._acquire(env, cancel))
            prepared = await self._launcher.pre_launch(**kwargs)
            launch = Launch(tuple(prepared["cmd"]), prepared["env"])
            ready = await self._in_thread(
                lambda cancel: self._hydrate(
                    acquired, launch, notebook.locate(env, os.environ), cancel
                )
            )
        except BaseException:
            await self._give_up()
            raise
        prepared.update(cmd=list(ready.argv), env=dict(ready.env))
        if self.workdir == "volume":
            prepared["cwd"] = str(acquired.path)
        if isinstance(self._launcher, LocalProvisioner):
            prepared["pass_fds"] = (*prepared.get("pass_fds", ()), acquired.lease_fd)
        return prepared

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Called by `KernelManager.launch_kernel` with what `pre_launch` returned; the launcher starts the process."""
        try:
            return await self._launcher.launch_kernel(cmd, **kwargs)
        except BaseException:
            await self._give_up()
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

        At a restart the volume stays leased; otherwise it is given back. Never deletes anything.
        """
        try:
            if self._wrapped is not None:
                await self._wrapped.cleanup(restart=restart)
        finally:
            if not restart:
                await self._release()

    # -- what is the launcher's ------------------------------------------------------------------------------

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

    def __getattr__(self, name: str) -> Any:
        """Pass on what a launcher has beyond the common face, such as `pid` and `process` of a local one."""
        if name.startswith("_") or self._wrapped is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._wrapped, name)

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
        """Asked by `KernelManager.finish_shutdown`; the launcher's answer."""
        return self._launcher.get_shutdown_wait_time(recommended)

    def get_stable_start_time(self, recommended: float = 10.0) -> float:
        """Asked by `KernelRestarter`; the launcher's answer."""
        return self._launcher.get_stable_start_time(recommended)

    def resolve_path(self, path: str) -> str | None:
        """Asked by debuggers for a file relative to the kernel's working directory; the launcher's answer."""
        return self._launcher.resolve_path(path)

    async def get_provisioner_info(self) -> dict[str, Any]:
        """Called by applications that persist kernels; the launcher's information and the volume's session."""
        info = await super().get_provisioner_info()
        info["launcher"] = await self._launcher.get_provisioner_info()
        if self._acquired is not None:
            info["session"] = self._acquired.record.session
        return info

    async def load_provisioner_info(self, provisioner_info: dict[str, Any]) -> None:
        """Called by applications that take a persisted kernel over: its process still holds the lease."""
        await super().load_provisioner_info(provisioner_info)
        await self._launcher.load_provisioner_info(provisioner_info["launcher"])

    # -- the volume ------------------------------------------------------------------------------------------

    @property
    def session(self) -> str | None:
        """The session whose volume the kernel has; None before the start and after the end."""
        return None if self._acquired is None else self._acquired.record.session

    @property
    def volume(self) -> str | None:
        """The path of the kernel's volume; None before the start and after the end."""
        return None if self._acquired is None else str(self._acquired.path)

    def _acquire(self, env: Mapping[str, str], cancel: threading.Event) -> Acquired:
        """Find out which session this is and acquire its volume; at a restart, only follow a renamed notebook."""
        pool = self._pool = self._pool or pool_of(load_settings(self.config))
        clues = notebook.gather(
            self.kernel_id, env, os.environ, pool.names_of(env.get(session.VOLUME_VARIABLE, ""))
        )
        chosen = session.choose(clues)
        if self._acquired is not None:
            self._acquired = self._follow_rename(pool, self._acquired, chosen)
            return self._acquired
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
            record = pool.relabel(acquired.record.id, chosen.name)
            if record is not None:
                return replace(acquired, record=record)
        return acquired

    def _hydrate(
        self, acquired: Acquired, launch: Launch, path: str | None, cancel: threading.Event
    ) -> Launch:
        assert self._pool is not None
        try:
            hydrated = environment.prepare(
                launch,
                self._pool,
                self,
                acquired,
                notebook=path,
                progress=self._tell_progress(acquired),
                cancel=cancel,
            )
        except VolumeError as error:
            self._tell(Kind.FAILED, acquired, message=str(error), code=error.code)
            raise
        seconds = sum(step.took.total_seconds() for step in hydrated.report)
        hit = all(step.hit for step in hydrated.report)
        self._tell(Kind.HYDRATED, acquired, seconds=seconds, hit=hit)
        return hydrated.launch

    def _tell_progress(self, acquired: Acquired) -> Progress:
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

    async def _release(self) -> None:
        acquired, self._acquired = self._acquired, None
        if acquired is None or self._pool is None:
            return
        if self._dropped is not None:
            self._dropped.detach()
        process = getattr(self._wrapped, "pid", None)
        pool = self._pool
        await asyncio.shield(_finished(_start_thread(lambda: pool.release(acquired, process))))

    async def _give_up(self) -> None:
        """A start has failed: give everything back, and let the server that asked still be able to stop."""
        await self._release()
        # MultiKernelManager keeps the id of a failed start among its pending kernels and later tries to shut that
        # kernel down, which it does not know: the server then never exits (jupyter_client 8.10).
        pending = getattr(getattr(self.parent, "parent", None), "_pending_kernels", None)
        if isinstance(pending, dict):
            pending.pop(self.kernel_id, None)

    # -- waiting ---------------------------------------------------------------------------------------------

    async def _in_thread(self, work: Callable[[threading.Event], T]) -> T:
        """Run blocking work in a thread; end it, and wait for its end, when nobody wants the kernel any more."""
        cancel = threading.Event()
        task = _start_thread(lambda: work(cancel))
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=_WATCH_SECONDS)
                self._mark_active()
                if self._is_unwanted():
                    cancel.set()
            return task.result()
        except asyncio.CancelledError:
            cancel.set()
            with contextlib.suppress(BaseException):
                await asyncio.wait({task})
            raise

    def _is_unwanted(self) -> bool:
        """Whether the notebook was closed while its kernel was pending (nothing else tells a provisioner)."""
        ready = getattr(self.parent, "ready", None)
        return ready is not None and bool(ready.cancelled())

    def _mark_active(self) -> None:
        """A kernel that is being made ready has no connections and no activity; a culler must not take it for idle."""
        with contextlib.suppress(
            TraitError
        ):  # a trait that has no value yet raises when it is read
            if self.parent is not None and getattr(self.parent, "last_activity", None) is not None:
                self.parent.last_activity = datetime.now(timezone.utc)

    # -- options and launcher --------------------------------------------------------------------------------

    @property
    def _kernelspec_name(self) -> str:
        name = getattr(self.parent, "kernel_name", "") or getattr(self.kernel_spec, "name", "")
        return str(name)

    @property
    def _launcher(self) -> KernelProvisionerBase:
        if self._wrapped is None:
            self._wrapped = self._make_launcher()
        return self._wrapped

    def _make_launcher(self) -> KernelProvisionerBase:
        """Make the wrapped provisioner from a copy of the kernelspec: the manager shares its own among kernels."""
        factory = KernelProvisionerFactory.instance(parent=self.parent)
        if self.launcher == PROVISIONER:
            raise LauncherUnusable(
                f"The launcher of kernelspec {self._kernelspec_name!r} is {PROVISIONER!r} itself; "
                'name the provisioner that starts the process, such as "local-provisioner".'
            )
        spec: KernelSpec = type(self.kernel_spec)(**self.kernel_spec.trait_values())
        stanza = {"provisioner_name": self.launcher, "config": dict(self.launcher_config)}
        spec.metadata = {**spec.metadata, "kernel_provisioner": stanza}
        try:
            made = factory.create_provisioner_instance(self.kernel_id, spec, self.parent)
        except ModuleNotFoundError as error:
            known = sorted(set(factory.get_provisioner_entries()) - {PROVISIONER})
            raise LauncherUnusable(
                f"The launcher {self.launcher!r} of kernelspec {self._kernelspec_name!r} is not installed; "
                f"install its package or use one of {', '.join(known)}."
            ) from error
        if isinstance(made, VolumeProvisioner):
            raise LauncherUnusable(
                f"The launcher {self.launcher!r} of kernelspec {self._kernelspec_name!r} gives volumes itself; "
                "name one that starts a process."
            )
        return made


# Whoever asks whether a kernel is a local process (jupyter_client's own tests do) asks for what such a provisioner
# offers, and `__getattr__` passes that on. A virtual subclass: nothing is inherited.
LocalProvisioner.register(VolumeProvisioner)  # type: ignore[attr-defined]  # its ABCMeta is made at run time


def _start_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Run blocking work in a thread of its own.

    Not in the loop's executor: a few long hydrations would fill it, and all that a server does in threads would wait.
    And a process forked from one that used it (papermill or nbclient under multiprocessing) inherits the loop, and
    an executor whose threads were not forked: what is submitted to it never runs.
    """
    done: concurrent.futures.Future[T] = concurrent.futures.Future()
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            done.set_exception(error)

    threading.Thread(target=run, name="volume", daemon=True).start()
    return asyncio.wrap_future(done)


async def _finished(task: asyncio.Future[T]) -> T:
    """Wait, looking from time to time: a forked process shares the pipe that wakes an inherited loop up."""
    while not task.done():
        await asyncio.wait({task}, timeout=_WATCH_SECONDS)
    return task.result()


def _release_in_background(pool: Pool, acquired: Acquired) -> None:
    """Release from a thread: the garbage collector may run while this one holds the pool's locks."""
    threading.Thread(target=pool.release, args=(acquired,), daemon=True).start()
