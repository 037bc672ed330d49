"""The REST interface, as `openapi.yaml` describes it."""

from __future__ import annotations

import functools
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

from jupyter_events import yaml
from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web

from provisioner.core.errors import VolumeError
from provisioner.core.policy import Due
from provisioner.server.rest.models import Model, View, job_model, volume_model
from provisioner.server.rest.refusals import BodyTooLarge, NotFound, status_of
from provisioner.server.rest.requests import LARGEST_BODY, Field, read_body
from provisioner.server.wiring import Wiring

AUTH_RESOURCE = "volumes"
"""What an authorizer is asked about: read for GET, write for all else."""

OPENAPI = Path(__file__).parent / "openapi.yaml"

_CODES = {400: "bad-request", 403: "forbidden", 404: "not-found", 405: "method-not-allowed"}

Endpoint = Callable[..., Awaitable[Model]]


def endpoint(method: Endpoint) -> Callable[..., Awaitable[None]]:
    """Make a method that returns a model one that checks who asks, and answers with the model or the refusal."""

    @functools.wraps(method)
    async def answer(self: VolumesAPIHandler, *args: str) -> None:
        try:
            model = await method(self, *args)
        except VolumeError as error:
            self.refuse(error)
        else:
            self.finish(json.dumps(model))

    guarded: Any = web.authenticated(authorized(answer))
    return cast(Callable[..., Awaitable[None]], guarded)


class VolumesAPIHandler(APIHandler):
    """Answers in JSON, errors too: one line for people, a stable code for programs."""

    auth_resource = AUTH_RESOURCE

    def initialize(self, wiring: Wiring) -> None:
        """Called by tornado for each request, with what the extension registered."""
        self.wiring = wiring

    async def prepare(self) -> None:  # type: ignore[override]  # as APIHandler's own
        """Called by tornado before the method; who asks is known after it."""
        await super().prepare()
        size = len(self.request.body or b"")
        if self.current_user and size > LARGEST_BODY:
            self.refuse(BodyTooLarge(f"The body has {size} bytes; send at most {LARGEST_BODY}."))

    def refuse(self, error: VolumeError) -> None:
        """Answer with an error of the pool or of the interface."""
        self.set_status(status_of(error))
        self.finish(json.dumps({"message": " ".join(str(error).split("\n")), "code": error.code}))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Called by tornado for what it, the authentication and the XSRF check refuse, and for faults."""
        raised = kwargs.get("exc_info", (None, None))[1]
        message = self._reason
        if isinstance(raised, web.HTTPError) and raised.log_message:
            message = raised.log_message
        code = _CODES.get(status_code, "internal" if status_code >= 500 else "refused")
        self.finish(json.dumps({"message": " ".join(message.split("\n")), "code": code}))

    @property
    def _track_activity(self) -> bool:  # type: ignore[override]  # a constant there
        # The panel in Lab looks every few seconds; that must not keep a server alive which is shut down when idle.
        return self.request.method != "GET"

    def body(self, **fields: Field) -> dict[str, Any]:
        """Return the fields of the request's body (`BadRequest`)."""
        return read_body(self.request.body or b"", fields)


class VolumesHandler(VolumesAPIHandler):
    """All volumes."""

    @endpoint
    async def get(self) -> Model:
        """List them."""
        views = await self.wiring.views()
        return {"volumes": [volume_model(view) for view in views]}


class VolumeHandler(VolumesAPIHandler):
    """One volume."""

    @endpoint
    async def get(self, volume_id: str) -> Model:
        """Show it."""
        return volume_model(await self.wiring.view(volume_id))

    @endpoint
    async def delete(self, volume_id: str) -> Model:
        """Delete its files, if the body names its session."""
        body = self.body(session=Field(str, required=True), backups=Field(bool))
        before = await self.wiring.view(volume_id)
        record = await self.wiring.workers.run(
            lambda: self.wiring.operations.delete(
                volume_id, body["session"], body.get("backups", False)
            )
        )
        try:
            return volume_model(await self.wiring.view(volume_id))
        except NotFound:
            # Without a backup nothing is left to list.
            return volume_model(View(record, before.path, None, Due(None, None)))


class BackupHandler(VolumesAPIHandler):
    """Backups of one volume."""

    @endpoint
    async def post(self, volume_id: str) -> Model:
        """Begin one."""
        self.body()
        job = await self.wiring.workers.run(lambda: self.wiring.operations.back_up(volume_id))
        self.set_status(202)
        return job_model(job)


class RestoreHandler(VolumesAPIHandler):
    """Bringing one volume back."""

    @endpoint
    async def post(self, volume_id: str) -> Model:
        """Begin it."""
        backup = self.body(backup=Field(str)).get("backup")
        job = await self.wiring.workers.run(
            lambda: self.wiring.operations.restore(volume_id, backup)
        )
        self.set_status(202)
        return job_model(job)


class PinHandler(VolumesAPIHandler):
    """Whether one volume is never pruned."""

    @endpoint
    async def put(self, volume_id: str) -> Model:
        """Say so, or no longer."""
        pinned = self.body(pinned=Field(bool, required=True))["pinned"]
        await self.wiring.workers.run(lambda: self.wiring.operations.pin(volume_id, pinned))
        return volume_model(await self.wiring.view(volume_id))


class KeepHandler(VolumesAPIHandler):
    """Keeping the kernels of one volume running."""

    @endpoint
    async def post(self, volume_id: str) -> Model:
        """Count them as active now."""
        self.body()
        await self.wiring.keep(volume_id)
        return volume_model(await self.wiring.view(volume_id))


class SweepHandler(VolumesAPIHandler):
    """Sweeps."""

    @endpoint
    async def post(self) -> Model:
        """Begin one."""
        dry_run = self.body(dry_run=Field(bool)).get("dry_run", False)
        job = await self.wiring.workers.run(lambda: self.wiring.operations.sweep(dry_run))
        self.set_status(202)
        return job_model(job)


class JobHandler(VolumesAPIHandler):
    """One job."""

    @endpoint
    async def get(self, job_id: str) -> Model:
        """Show how it stands."""
        job = self.wiring.jobs.find(job_id)
        if job is None:
            raise NotFound(f"There is no job {job_id[:80]!r}, or it is long over.")
        return job_model(job)


class OpenAPIHandler(VolumesAPIHandler):
    """The description of this interface."""

    @web.authenticated
    @authorized
    async def get(self, form: str) -> None:
        """Give it, as JSON or as the YAML that it is written in."""
        if form == "json":
            self.finish(json.dumps(yaml.load(OPENAPI)))
        else:
            text = OPENAPI.read_text(encoding="utf-8")
            self.finish(text, set_content_type="application/yaml")


class NowhereHandler(VolumesAPIHandler):
    """Paths that lead nowhere."""

    @endpoint
    async def get(self, path: str) -> Model:
        """Say so, in JSON as everywhere here."""
        raise NotFound("There is nothing at this path; see /api/volumes/openapi.json.")

    post = put = patch = delete = get


def handlers(wiring: Wiring) -> list[tuple[str, type[VolumesAPIHandler], dict[str, Any]]]:
    """Return the paths, relative to the server's base URL, and their handlers."""
    volume = r"/api/volumes/([^/]+)"
    paths: list[tuple[str, type[VolumesAPIHandler]]] = [
        (r"/api/volumes", VolumesHandler),
        (r"/api/volumes/openapi\.(json|yaml)", OpenAPIHandler),
        (r"/api/volumes/sweep", SweepHandler),
        (r"/api/volumes/jobs/([^/]+)", JobHandler),
        (volume, VolumeHandler),
        (volume + "/backup", BackupHandler),
        (volume + "/restore", RestoreHandler),
        (volume + "/pin", PinHandler),
        (volume + "/keep", KeepHandler),
        (r"/api/volumes/(.*)", NowhereHandler),
    ]
    return [(path, handler, {"wiring": wiring}) for path, handler in paths]
