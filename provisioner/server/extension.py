"""The server extension itself: puts the parts together, starts them and stops them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

from jupyter_client.multikernelmanager import AsyncMultiKernelManager
from jupyter_client.provisioning.factory import KernelProvisionerFactory
from jupyter_server.extension.application import ExtensionApp, ExtensionAppJinjaMixin
from jupyter_server.gateway.gateway_client import GatewayClient
from jupyter_server.serverapp import ServerApp
from traitlets import default
from traitlets.config import Config

from provisioner.pool.pools import pool_of
from provisioner.server.background.maintenance import Maintenance
from provisioner.server.background.warming import Warming
from provisioner.server.background.workers import Workers
from provisioner.server.culling.culler import Culler
from provisioner.server.failed_starts import KERNEL_SCHEMA, FailedStarts
from provisioner.server.kernels import VolumeKernels
from provisioner.server.notebooks import api_path
from provisioner.server.notebooks.identity import NotebookIdentity, with_notebook_identity
from provisioner.server.notebooks.renames import CONTENTS_SCHEMA, Whereabouts
from provisioner.server.rest.handlers import handlers
from provisioner.server.rest.jobs import Jobs
from provisioner.server.rest.listing import Listing
from provisioner.server.rest.operations import Operations
from provisioner.server.rest.page import page_handlers
from provisioner.server.starts import end_starts
from provisioner.server.telemetry.events import Announcer, register_schemas
from provisioner.server.telemetry.metrics import Metrics
from provisioner.server.wiring import Wiring
from provisioner.settings.pool import load_settings

T = TypeVar("T")

_STOP_SECONDS = 1.5
"""How long each part may take to stop; a server must be gone five seconds after it was told to go."""


class VolumesExtension(ExtensionAppJinjaMixin, ExtensionApp):
    """Looks after the volumes of a server. Its settings are those of `c.VolumePool`."""

    name = "jupyter_volumes"
    load_other_extensions = True

    @default("template_paths")
    def _default_template_paths(self) -> list[str]:
        return [str(Path(__file__).parent / "templates")]

    # -- called by the server, in this order -----------------------------------------------------------------

    def _link_jupyter_server_extension(self, serverapp: ServerApp) -> None:
        """Called before the server makes its kernel and session managers: what they are is said here."""
        super()._link_jupyter_server_extension(serverapp)
        # As the server itself does a moment later; the defaults of its classes depend on it.
        serverapp.gateway_config = GatewayClient.instance(parent=serverapp)
        if not serverapp.gateway_config.gateway_enabled:
            serverapp.update_config(_pending_kernels(serverapp))
            chosen = with_notebook_identity(serverapp.session_manager_class)
            serverapp.update_config(Config({"ServerApp": {"session_manager_class": chosen}}))

    def initialize_settings(self) -> None:
        """Called when the managers and the web application are there, before a client can connect."""
        server = _there(self.serverapp)
        log, logger = server.log, _there(server.event_logger)
        self.pool = pool = pool_of(load_settings(server.config))
        # There is one in a process, made with the configuration of whoever asks first.
        KernelProvisionerFactory.instance(parent=server)
        register_schemas(logger)
        # JupyterLab hands it to the browser: there, nothing is asked of a server without this extension.
        server.web_app.settings.setdefault("page_config_data", {})["jupyterVolumes"] = True
        loop = server.io_loop.asyncio_loop  # type: ignore[attr-defined]  # of tornado's loop on asyncio
        self.workers = Workers()
        self.announcer = Announcer(pool, logger, loop, log)
        self.kernels = VolumeKernels(pool, self._is_known)
        failed_starts = FailedStarts(server.kernel_manager)
        logger.add_listener(schema_id=KERNEL_SCHEMA, listener=failed_starts.on_kernel_event)
        self.metrics = Metrics(pool)
        self.culler = Culler(
            manager=server.kernel_manager,
            kernels=self.kernels,
            notebook_file=self._notebook_file,
            settings=lambda: pool.settings,
            announcer=self.announcer,
            culled=self.metrics.culls.inc,
            workers=self.workers,
            clock=pool.clock,
            log=log,
        )
        # A look soon after each start: how long a kernel may be idle is then known, and shown.
        self.kernels.on_new = lambda: loop.call_soon_threadsafe(self.culler.wake)
        self.maintenance = Maintenance(pool, lambda: pool.settings, log, self.metrics.swept)
        self.warming = Warming(pool, lambda: pool.settings, log)
        self.jobs = Jobs(pool.clock)
        self._follow_notebooks(server)
        self._culling: asyncio.Task[None] | None = None

    def initialize_handlers(self) -> None:
        """Called next."""
        listing = Listing(self.pool, _there(self.serverapp).root_dir)
        operations = Operations(self.pool, listing, self.jobs)
        wiring = Wiring(
            self.pool, self.kernels, self.culler, self.jobs, listing, operations, self.workers
        )
        self.handlers.extend([*handlers(wiring), *page_handlers(wiring)])

    async def _start_jupyter_server_extension(self, serverapp: ServerApp) -> None:
        """Called once the event loop runs."""
        self._culling = asyncio.create_task(self.culler.run())
        self.maintenance.start()
        self.warming.start()

    async def stop_extension(self) -> None:
        """Called when the server stops, before its kernels are shut down. Never backs up, never fails."""
        if not hasattr(self, "jobs"):
            return
        if self._culling is not None:
            self._culling.cancel()
        await asyncio.gather(
            self._ended(asyncio.to_thread(self.maintenance.stop, _STOP_SECONDS)),
            self._ended(asyncio.to_thread(self.warming.stop, _STOP_SECONDS)),
            self._ended(asyncio.to_thread(self.jobs.stop, _STOP_SECONDS)),
            self._ended(self._end_starts()),
        )
        self.announcer.close()
        self.kernels.close()
        self.metrics.close()

    # -- between the server and the parts --------------------------------------------------------------------

    def _follow_notebooks(self, server: ServerApp) -> None:
        whereabouts = Whereabouts(self.pool, server.root_dir, self.workers, server.log)
        _there(server.event_logger).add_listener(
            schema_id=CONTENTS_SCHEMA, listener=whereabouts.on_contents_event
        )
        if isinstance(server.session_manager, NotebookIdentity):
            server.session_manager.on_rename = whereabouts.session_renamed
            whereabouts.on_moved = server.session_manager.moved

    def _is_known(self, kernel_id: str) -> bool:
        manager = _there(self.serverapp).kernel_manager
        # A start without pending kernels is known only there.
        return kernel_id in manager or kernel_id in manager._pending_kernels  # noqa: SLF001

    def _notebook_file(self, kernel_id: str) -> str | None:
        server = _there(self.serverapp)
        if not isinstance(server.session_manager, NotebookIdentity):
            return None
        notebook = server.session_manager.notebook_of(kernel_id)
        return None if notebook is None else api_path.local_file(notebook, server.root_dir)

    async def _end_starts(self) -> None:
        manager = _there(self.serverapp).kernel_manager
        await end_starts(manager, self.kernels.is_ours, _STOP_SECONDS)

    async def _ended(self, work: Awaitable[Any]) -> None:
        try:
            await work
        except Exception:
            self.log.exception("A part of jupyter-volumes did not stop in good order")


def _pending_kernels(serverapp: ServerApp) -> Config:
    """Return the configuration that lets sessions begin while their kernels are pending, unless the user said.

    Otherwise a request waits as long as a hydration takes, proxies break it off, and cells run meanwhile are lost.
    """
    chosen = serverapp.kernel_manager_class
    if not issubclass(chosen, AsyncMultiKernelManager):
        return Config()
    said = (serverapp.config.get(kind.__name__, {}) for kind in chosen.__mro__)
    if any("use_pending_kernels" in section for section in said):
        return Config()
    return Config({chosen.__name__: {"use_pending_kernels": True}})


def _there(part: T | None) -> T:
    """Return a part that the server has by now."""
    assert part is not None
    return part
