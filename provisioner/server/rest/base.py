"""The base of the REST endpoints: reads bodies, and answers in JSON, errors included."""

from __future__ import annotations

import functools
import json
from collections.abc import Awaitable, Callable
from typing import Any, cast

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web

from provisioner.core.errors import VolumeError
from provisioner.server.rest.jobs import Job
from provisioner.server.rest.models import Model, job_model, volume_model
from provisioner.server.rest.operations import Operations
from provisioner.server.rest.refusals import Refusal, status_of
from provisioner.server.rest.volumes import View

AUTH_RESOURCE = "volumes"
"""The resource that an authorizer is asked about, with the action `read` for GET and `write` for all else."""

LARGEST_BODY = 64 * 1024
"""Bytes; the longest session name takes 4 kB, or 24 kB if each character is escaped."""

_CODES = {400: "bad-request", 403: "forbidden", 404: "not-found", 405: "method-not-allowed"}
_JSON_NAMES = {bool: "true or false", str: "a string"}

Endpoint = Callable[..., Awaitable["View | Job | Model"]]


def endpoint(method: Endpoint) -> Callable[..., Awaitable[None]]:
    """Make an endpoint of a method: check the user, answer with a model of what it returns, or with its error."""

    @functools.wraps(method)
    async def answer(self: VolumesAPIHandler, *args: str) -> None:
        try:
            found = await method(self, *args)
        except VolumeError as error:
            self.finish_with(status_of(error), str(error), error.code)
            return
        if isinstance(found, Job):
            self.set_status(200 if self.request.method == "GET" else 202)
            found = job_model(found)
        self.finish(json.dumps(volume_model(found) if isinstance(found, View) else found))

    guarded: Any = web.authenticated(authorized(answer))
    return cast(Callable[..., Awaitable[None]], guarded)


class VolumesAPIHandler(APIHandler):
    """Answers in JSON, errors too: one line for people, a stable code for programs."""

    auth_resource = AUTH_RESOURCE

    def initialize(self, operations: Operations) -> None:
        """Called by tornado for each request."""
        self.operations = operations

    async def prepare(self) -> None:  # type: ignore[override]  # as APIHandler's own
        """Called by tornado before the endpoint; afterwards the user is known."""
        await super().prepare()
        size = len(self.request.body or b"")
        if self.current_user and size > LARGEST_BODY:
            message = f"The body has {size} bytes; send at most {LARGEST_BODY}."
            self.finish_with(413, message, "body-too-large")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Called by tornado for its own errors, those of authentication and XSRF check, and unexpected exceptions."""
        raised = kwargs.get("exc_info", (None, None))[1]
        message = self._reason
        if isinstance(raised, web.HTTPError) and raised.log_message:
            message = raised.log_message
        code = _CODES.get(status_code, "internal" if status_code >= 500 else "refused")
        self.finish_with(status_code, message, code)

    def finish_with(self, status: int, message: str, code: str) -> None:
        """Answer with an error."""
        self.set_status(status)
        self.finish(json.dumps({"message": " ".join(message.split("\n")), "code": code}))

    @property
    def _track_activity(self) -> bool:  # type: ignore[override]  # a constant there
        # The panel in Lab polls every few seconds; that must not keep a server alive that is shut down when idle.
        return self.request.method != "GET"

    def body(self, *required: str, **kinds: type) -> dict[str, Any]:
        """Return the body, an object with fields of these kinds (`bad-request`); an empty one is an empty object."""
        raw = self.request.body or b""
        try:
            body = json.loads(raw) if raw.strip() else {}
        except (ValueError, RecursionError):
            body = None
        # An exact comparison of types: in Python, true is an int as well.
        if (
            not isinstance(body, dict)
            or any(type(value) is not kinds.get(name) for name, value in body.items())
            or not body.keys() >= set(required)
        ):
            fields = [
                f"{name!r} ({_JSON_NAMES[kind]}{', required' if name in required else ''})"
                for name, kind in kinds.items()
            ]
            wanted = f"a JSON object with {' and '.join(fields)}" if fields else "nothing"
            misfits = (
                [n for n, v in body.items() if type(v) is not kinds.get(n)]
                if isinstance(body, dict)
                else []
            )
            where = f" (see {misfits[0][:80]!r})" if misfits else ""
            raise Refusal(
                "bad-request", f"The body does not fit this operation{where}; send {wanted}."
            )
        return body
