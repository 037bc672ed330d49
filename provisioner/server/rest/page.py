"""The page `/volumes`: lists the volumes and offers the operations on them, without JupyterLab and JavaScript."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.extension.handler import ExtensionHandlerJinjaMixin, ExtensionHandlerMixin
from jupyter_server.utils import url_path_join
from tornado import web

from provisioner.core.errors import VolumeError
from provisioner.core.record import State
from provisioner.server.rest.base import AUTH_RESOURCE
from provisioner.server.rest.models import volume_model
from provisioner.server.rest.operations import Operations, size
from provisioner.server.rest.refusals import Refusal, status_of
from provisioner.server.rest.volumes import View

_DONE = {
    "backup": "The backup has begun.",
    "restore": "The volume is being brought back.",
    "pin": "The volume is pinned: it is never pruned.",
    "unpin": "The volume is no longer pinned.",
    "keep": "Its kernels count as active now.",
    "delete": "The volume's files are deleted.",
    "sweep": "The sweep has begun.",
}
"""The message after each action. The page repeats nothing from a request unescaped or at length."""

_RECENT_JOBS = 5


class PageHandler(ExtensionHandlerJinjaMixin, ExtensionHandlerMixin, JupyterHandler):
    """Shows the page."""

    auth_resource = AUTH_RESOURCE

    def initialize(self, name: str, operations: Operations) -> None:
        """Called by tornado for each request."""
        super().initialize(name)
        self.operations = operations
        self.page_url = url_path_join(self.base_url, "volumes")

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Show the page."""
        await self.show(done=_DONE.get(self.get_query_argument("done", ""), ""))

    async def show(self, *, done: str = "", refused: str = "") -> None:
        """Answer with the page; above the table stands what was done, or why it was refused."""
        now = self.operations.clock()
        try:
            views = await self.operations.volumes.all()
        except VolumeError as error:
            self.set_status(status_of(error))
            views, refused = [], str(error)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        page = self.render_template(
            "volumes.html",
            rows=[row(view, now) for view in views],
            jobs=self.operations.jobs.recent(_RECENT_JOBS),
            done=done,
            refused=refused,
            page_url=self.page_url,
        )
        self.finish(page)


class ActionHandler(PageHandler):
    """Carries out the forms of the page."""

    async def get(self, *args: str) -> None:
        """Redirect a browser that opens the address of a form to the page."""
        self.redirect(self.page_url)

    @web.authenticated
    @authorized
    async def post(self, volume_id: str, action: str) -> None:
        """Carry the action out, and show the page again."""
        do = self.operations
        confirmation = self.get_body_argument("session", "", strip=False)
        actions: dict[str, Callable[[], Awaitable[object]]] = {
            "backup": lambda: do.back_up(volume_id),
            "restore": lambda: do.restore(volume_id, None),
            "pin": lambda: do.pin(volume_id, True),
            "unpin": lambda: do.pin(volume_id, False),
            "keep": lambda: do.keep(volume_id),
            "delete": lambda: do.delete(volume_id, confirmation),
            "sweep": do.sweep,
        }
        try:
            if action not in actions:
                raise Refusal("not-found", "There is no such action.")
            await actions[action]()
        except VolumeError as error:
            self.set_status(status_of(error))
            await self.show(refused=str(error))
        else:
            self.redirect(f"{self.page_url}?done={action}", status=303)


def row(view: View, now: datetime) -> dict[str, Any]:
    """Return the values that the page shows of one volume: those of the REST interface, and texts."""
    model = volume_model(view)
    if view.backup is not None:
        model["backup"]["age"] = span(now - view.backup.created)
    size_text = "" if view.record.bytes is None else size(view.record.bytes)
    return {**model, "size": size_text, "expiry": _expiry(view, now)}


def _expiry(view: View, now: datetime) -> str:
    if view.idle_shutdown_at is not None:
        return f"kernel is shut down {_when(view.idle_shutdown_at, now)}"
    if view.record.pinned:
        return "pinned"
    if view.due.prune is not None:
        return f"files are pruned {_when(view.due.prune, now)}"
    return "never" if view.record.state is State.STOPPED else ""


def _when(due: datetime, now: datetime) -> str:
    return "any moment now" if due <= now else f"in {span(due - now)}"


def span(duration: timedelta) -> str:
    """Return a duration in its largest unit."""
    seconds = max(0, round(duration.total_seconds()))
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count = round(seconds / length)
        if seconds >= length:
            return f"{count} {unit}" + ("s" if count != 1 else "")
    return f"{seconds} second" + ("s" if seconds != 1 else "")


def page_handlers(operations: Operations) -> list[tuple[str, type[PageHandler], dict[str, Any]]]:
    """Return the page's paths, relative to the server's base URL, and their handlers."""
    given = {"operations": operations}
    return [
        (r"/volumes", PageHandler, given),
        (r"/volumes/([^/]+)/([a-z]+)", ActionHandler, given),
    ]
