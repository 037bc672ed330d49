"""The base of the REST endpoints: reads bodies, and answers in JSON, errors included."""

from __future__ import annotations

import functools
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web

from provisioner.core.errors import VolumeError
from provisioner.server.rest.jobs import Jobs
from provisioner.server.rest.models import Model
from provisioner.server.rest.operations import Operations
from provisioner.server.rest.refusals import BadRequest, BodyTooLarge, status_of
from provisioner.server.rest.volumes import Volumes

AUTH_RESOURCE = "volumes"
"""The resource that an authorizer is asked about, with the action `read` for GET and `write` for all else."""

LARGEST_BODY = 64 * 1024
"""Bytes; the longest session name takes 4 kB, or 24 kB if each character is escaped."""

_CODES = {400: "bad-request", 403: "forbidden", 404: "not-found", 405: "method-not-allowed"}
_JSON_NAMES = {bool: "boolean", str: "string", dict: "object", list: "array", type(None): "null"}

Endpoint = Callable[..., Awaitable[Model]]


def endpoint(method: Endpoint) -> Callable[..., Awaitable[None]]:
    """Make an endpoint of a method that returns a model: check the user, answer with the model or the error."""

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


@dataclass(frozen=True)
class Field:
    """A field of a body: its type, and whether it is required."""

    kind: type
    required: bool = False


class VolumesAPIHandler(APIHandler):
    """Answers in JSON, errors too: one line for people, a stable code for programs."""

    auth_resource = AUTH_RESOURCE

    def initialize(self, volumes: Volumes, operations: Operations, jobs: Jobs) -> None:
        """Called by tornado for each request."""
        self.volumes = volumes
        self.operations = operations
        self.jobs = jobs

    async def prepare(self) -> None:  # type: ignore[override]  # as APIHandler's own
        """Called by tornado before the endpoint; afterwards the user is known."""
        await super().prepare()
        size = len(self.request.body or b"")
        if self.current_user and size > LARGEST_BODY:
            self.refuse(BodyTooLarge(f"The body has {size} bytes; send at most {LARGEST_BODY}."))

    def refuse(self, error: VolumeError) -> None:
        """Answer with an error of the pool or of the interface."""
        self._finish_with(status_of(error), str(error), error.code)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Called by tornado for its own errors, those of authentication and XSRF check, and unexpected exceptions."""
        raised = kwargs.get("exc_info", (None, None))[1]
        message = self._reason
        if isinstance(raised, web.HTTPError) and raised.log_message:
            message = raised.log_message
        code = _CODES.get(status_code, "internal" if status_code >= 500 else "refused")
        self._finish_with(status_code, message, code)

    def _finish_with(self, status: int, message: str, code: str) -> None:
        self.set_status(status)
        self.finish(json.dumps({"message": " ".join(message.split("\n")), "code": code}))

    @property
    def _track_activity(self) -> bool:  # type: ignore[override]  # a constant there
        # The panel in Lab polls every few seconds; that must not keep a server alive that is shut down when idle.
        return self.request.method != "GET"

    def body(self, **fields: Field) -> dict[str, Any]:
        """Return the fields of the request's body; an empty body is an empty object (`BadRequest`)."""
        raw = self.request.body or b""
        try:
            body = json.loads(raw) if raw.strip() else {}
        except (ValueError, RecursionError):
            raise BadRequest("The body is not JSON; send an object, or nothing.") from None
        if not isinstance(body, dict):
            raise BadRequest(f"The body is a JSON {_json_name(type(body))}; send an object.")
        for name in body:
            if name not in fields:
                known = " and ".join(sorted(fields)) or "none"
                raise BadRequest(f"The body has a field {name[:80]!r}; the fields are: {known}.")
        for name, field in fields.items():
            wanted = _json_name(field.kind)
            if name not in body and field.required:
                raise BadRequest(f"The body has no field {name!r}; give a {wanted}.")
            # An exact comparison: in Python, true is an int as well.
            if name in body and type(body[name]) is not field.kind:
                found = _json_name(type(body[name]))
                raise BadRequest(f"The field {name!r} is a {found}; give a {wanted}.")
        return body


def _json_name(kind: type) -> str:
    return _JSON_NAMES.get(kind, "number")
