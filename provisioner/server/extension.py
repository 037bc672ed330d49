"""The server extension: builds its parts, starts them and stops them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, TypeVar

from jupyter_client.provisioning.factory import KernelProvisionerFactory
from jupyter_server.extension.application import ExtensionApp, ExtensionAppJinjaMixin
from jupyter_server.serverapp import ServerApp
from traitlets import default
from traitlets.config import Config

from provisioner.pool.pool import pool_of
from provisioner.server import upstream
from provisioner.server.background.maintenance import Maintenance
from provisioner.server.background.threads import Workers
from provisioner.server.background.warming import Warming
from provisioner.server.culling.culler import Culler
from provisioner.server.kernels import VolumeKernels
from provisioner.server.notebooks import api_path
from provisioner.server.notebooks.identity import NotebookIdentity, with_notebook_identity
from provisioner.server.notebooks.renames import CONTENTS_SCHEMA, RenameFollower
from provisioner.server.rest.endpoints import api_handlers
from provisioner.server.rest.jobs import Jobs
from provisioner.server.rest.operations import Operations
from provisioner.server.rest.page import page_handlers
from provisioner.server.rest.volumes import Volumes
from provisioner.server.telemetry.events import VolumeEvents, register_schemas
from provisioner.server.telemetry.metrics import Metrics
from provisioner.settings.pool import load_settings

T = TypeVar("T")

_STOP_SECONDS = 1.5
"""How long each part may take to stop; a server must end within five seconds of its signal."""


class VolumesExtension(ExtensionAppJinjaMixin, ExtensionApp):
    """Looks after the volumes of a server. Its settings are those of `c.VolumePool`."""

    name = "jupyter_volumes"
    load_other_extensions = True

    @default("template_paths")
    def _default_template_paths(self) -> list[str]:
        return [str(Path(__file__).parent / "rest" / "templates")]

    # -- called by the server, in this order -----------------------------------------------------------------

    def _link_jupyter_server_extension(self, serverapp: ServerApp) -> None:
        """Called before the server creates its kernel and session managers: chooses their mode and class."""
        super()._link_jupyter_server_extension(serverapp)
        if not upstream.uses_gateway(serverapp):
            serverapp.update_config(upstream.pending_kernels(serverapp))
            chosen = with_notebook_identity(serverapp.session_manager_class)
            serverapp.update_config(Config({"ServerApp": {"session_manager_class": chosen}}))

    def initialize_settings(self) -> None:
        """Called when the managers and the web application exist, before a client can connect."""
        server = _present(self.serverapp)
        log, logger = server.log, _present(server.event_logger)
        self.pool = pool = pool_of(load_settings(server.config))
        # A singleton with the configuration of its first caller, which must not be the thread that makes spares.
        KernelProvisionerFactory.instance(parent=server)
        register_schemas(logger)
        # JupyterLab passes it to the browser, which sends no request to a server without this extension.
        server.web_app.settings.setdefault("page_config_data", {})["jupyterVolumes"] = True
        loop = server.io_loop.asyncio_loop  # type: ignore[attr-defined]  # of tornado's loop on asyncio
        self.workers = Workers()
        self.events = VolumeEvents(pool, logger, loop, log)
        manager = server.kernel_manager
        self.kernels = VolumeKernels(pool, lambda id_: upstream.is_known(manager, id_))
        self.metrics = Metrics(pool)
        self.culler = Culler(
            manager=manager,
            pool=pool,
            kernels=self.kernels,
            notebook_file=self._notebook_file,
            events=self.events,
            on_cull=self.metrics.culls.inc,
            workers=self.workers,
            log=log,
        )
        # A check soon after each start makes known, for display, how long the kernel may be idle.
        self.kernels.on_new = lambda: loop.call_soon_threadsafe(self.culler.wake)
        self.maintenance = Maintenance(pool, log, self.metrics.swept)
        self.warming = Warming(pool, log)
        self.jobs = Jobs(pool.clock)
        logger.add_listener(schema_id=upstream.KERNEL_SCHEMA, listener=self._on_kernel_event)
        self._follow_notebooks(server)
        self._culling: asyncio.Task[None] | None = None

    def initialize_handlers(self) -> None:
        """Called next."""
        root = _present(self.serverapp).root_dir
        volumes = Volumes(self.pool, self.kernels, self.culler.due, root, self.workers)
        operations = Operations(self.pool, volumes, self.culler, self.jobs, self.workers)
        self.handlers.extend(api_handlers(operations))
        self.handlers.extend(page_handlers(operations))

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
        manager = _present(self.serverapp).kernel_manager
        stops = (self.maintenance.stop, self.warming.stop, self.jobs.stop)
        ended = await asyncio.gather(
            *(asyncio.to_thread(stop, _STOP_SECONDS) for stop in stops),
            upstream.end_starts(manager, self.kernels.is_ours, _STOP_SECONDS),
            return_exceptions=True,
        )
        for error in filter(lambda result: isinstance(result, Exception), ended):
            self.log.error("A part of jupyter-volumes did not stop in good order", exc_info=error)
        self.events.close()
        self.kernels.close()
        self.metrics.close()

    # -- between the server and the parts --------------------------------------------------------------------

    def _follow_notebooks(self, server: ServerApp) -> None:
        follower = RenameFollower(self.pool, server.root_dir, self.workers, server.log)
        _present(server.event_logger).add_listener(
            schema_id=CONTENTS_SCHEMA, listener=follower.on_contents_event
        )
        if isinstance(server.session_manager, NotebookIdentity):
            server.session_manager.on_rename = follower.session_renamed
            follower.on_moved = server.session_manager.moved

    def _notebook_file(self, kernel_id: str) -> str | None:
        server = _present(self.serverapp)
        if not isinstance(server.session_manager, NotebookIdentity):
            return None
        notebook = server.session_manager.notebook_of(kernel_id)
        return None if notebook is None else api_path.local_file(notebook, server.root_dir)

    async def _on_kernel_event(self, logger: Any, schema_id: str, data: dict[str, Any]) -> None:
        await upstream.show_failed_start(_present(self.serverapp).kernel_manager, data)


def _present(part: T | None) -> T:
    """Return a part of the server that exists by now."""
    assert part is not None
    return part
