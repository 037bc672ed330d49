"""The endpoints of the REST interface, as `openapi.yaml` describes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jupyter_events import yaml
from jupyter_server.auth.decorator import authorized
from tornado import web

from provisioner.server.rest.base import VolumesAPIHandler, endpoint
from provisioner.server.rest.jobs import Job
from provisioner.server.rest.models import Model, volume_model
from provisioner.server.rest.operations import Operations
from provisioner.server.rest.refusals import Refusal
from provisioner.server.rest.volumes import View

OPENAPI = Path(__file__).parent / "openapi.yaml"


class VolumesHandler(VolumesAPIHandler):
    """All volumes."""

    @endpoint
    async def get(self) -> Model:
        """List them."""
        return {"volumes": [volume_model(view) for view in await self.operations.volumes.all()]}


class VolumeHandler(VolumesAPIHandler):
    """One volume."""

    @endpoint
    async def get(self, volume_id: str) -> View:
        """Return it."""
        return await self.operations.volumes.one(volume_id)

    @endpoint
    async def delete(self, volume_id: str) -> View:
        """Delete its files, if the body names its session."""
        body = self.body("session", session=str, backups=bool)
        return await self.operations.delete(volume_id, body["session"], body.get("backups", False))


class BackupHandler(VolumesAPIHandler):
    """Backups of one volume."""

    @endpoint
    async def post(self, volume_id: str) -> Job:
        """Start one."""
        self.body()
        return await self.operations.back_up(volume_id)


class RestoreHandler(VolumesAPIHandler):
    """Restores of one volume."""

    @endpoint
    async def post(self, volume_id: str) -> Job:
        """Start one."""
        return await self.operations.restore(volume_id, self.body(backup=str).get("backup"))


class PinHandler(VolumesAPIHandler):
    """Whether one volume is pinned."""

    @endpoint
    async def put(self, volume_id: str) -> View:
        """Pin or unpin it."""
        return await self.operations.pin(volume_id, self.body("pinned", pinned=bool)["pinned"])


class KeepHandler(VolumesAPIHandler):
    """The kernels of one volume."""

    @endpoint
    async def post(self, volume_id: str) -> View:
        """Count them as active now."""
        self.body()
        return await self.operations.keep(volume_id)


class SweepHandler(VolumesAPIHandler):
    """Sweeps."""

    @endpoint
    async def post(self) -> Job:
        """Start one."""
        return await self.operations.sweep(self.body(dry_run=bool).get("dry_run", False))


class JobHandler(VolumesAPIHandler):
    """One job."""

    @endpoint
    async def get(self, job_id: str) -> Job:
        """Return its state."""
        job = self.operations.jobs.find(job_id)
        if job is None:
            raise Refusal("not-found", f"There is no job {job_id[:80]!r}, or it is long over.")
        return job


class OpenAPIHandler(VolumesAPIHandler):
    """The description of this interface."""

    @web.authenticated
    @authorized
    async def get(self, form: str) -> None:
        """Return it as JSON, or as the YAML that it is written in."""
        if form == "json":
            self.finish(json.dumps(yaml.load(OPENAPI)))
        else:
            text = OPENAPI.read_text(encoding="utf-8")
            self.finish(text, set_content_type="application/yaml")


class UnknownPathHandler(VolumesAPIHandler):
    """All other paths under `/api/volumes`."""

    @endpoint
    async def get(self, path: str) -> Model:
        """Refuse in JSON, as everywhere in this interface."""
        raise Refusal("not-found", "There is nothing at this path; see /api/volumes/openapi.json.")

    post = put = patch = delete = get


def api_handlers(
    operations: Operations,
) -> list[tuple[str, type[VolumesAPIHandler], dict[str, Any]]]:
    """Return the paths, relative to the server's base URL, and their handlers."""
    volume = r"/api/volumes/([^/]+)"
    paths: dict[str, type[VolumesAPIHandler]] = {
        r"/api/volumes": VolumesHandler,
        r"/api/volumes/openapi\.(json|yaml)": OpenAPIHandler,
        r"/api/volumes/sweep": SweepHandler,
        r"/api/volumes/jobs/([^/]+)": JobHandler,
        volume: VolumeHandler,
        volume + "/backup": BackupHandler,
        volume + "/restore": RestoreHandler,
        volume + "/pin": PinHandler,
        volume + "/keep": KeepHandler,
        r"/api/volumes/(.*)": UnknownPathHandler,
    }
    return [(path, handler, {"operations": operations}) for path, handler in paths.items()]
