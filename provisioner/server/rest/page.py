"""The page `/volumes`: the volumes and what can be done to them, for those without JupyterLab or JavaScript."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.extension.handler import ExtensionHandlerJinjaMixin, ExtensionHandlerMixin
from jupyter_server.utils import url_path_join
from tornado import web

from provisioner.core.errors import VolumeError
from provisioner.core.record import State
from provisioner.server.rest.handlers import AUTH_RESOURCE
from provisioner.server.rest.models import View, moment, short_name
from provisioner.server.rest.refusals import NotFound, status_of
from provisioner.server.rest.wording import size, span
from provisioner.server.wiring import Wiring

_SAID = {
    "backup": "The backup has begun.",
    "restore": "The volume is being brought back.",
    "pin": "The volume is pinned: it is never pruned.",
    "unpin": "The volume is no longer pinned.",
    "keep": "Its kernels count as active now.",
    "delete": "The volume's files are deleted.",
    "sweep": "The sweep has begun.",
}
"""What the page says after each action; nothing that comes with a request is repeated on it unescaped or at length."""

_RECENT_JOBS = 5


class PageHandler(ExtensionHandlerJinjaMixin, ExtensionHandlerMixin, JupyterHandler):
    """Shows the page, and carries out its forms."""

    auth_resource = AUTH_RESOURCE

    def initialize(self, name: str, wiring: Wiring) -> None:
        """Called by tornado for each request, with what the extension registered."""
        super().initialize(name)
        self.wiring = wiring

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Show the page."""
        said = _SAID.get(self.get_query_argument("done", ""), "")
        await self.show(said=said)

    async def show(self, *, said: str = "", refused: str = "") -> None:
        """Answer with the page and, above the table, what was done or why it was not."""
        now = self.wiring.pool.clock()
        try:
            views = await self.wiring.views()
        except VolumeError as error:
            self.set_status(status_of(error))
            views, refused = [], str(error)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        page = self.render_template(
            "volumes.html",
            rows=[row(view, now) for view in views],
            jobs=self.wiring.jobs.recent(_RECENT_JOBS),
            said=said,
            refused=refused,
            page_url=url_path_join(self.base_url, "volumes"),
        )
        self.finish(page)


class ActionHandler(PageHandler):
    """One form of the page, sent."""

    async def get(self, *args: str) -> None:
        """Lead whoever follows the address of a form to the page."""
        self.redirect(url_path_join(self.base_url, "volumes"))

    @web.authenticated
    @authorized
    async def post(self, volume_id: str, action: str) -> None:
        """Do it, and show the page again."""
        try:
            await self._act(volume_id, action)
        except VolumeError as error:
            self.set_status(status_of(error))
            await self.show(refused=str(error))
            return
        self.redirect(url_path_join(self.base_url, "volumes") + f"?done={action}", status=303)

    async def _act(self, volume_id: str, action: str) -> None:
        wiring = self.wiring
        if action == "keep":
            await wiring.keep(volume_id)
            return
        do = wiring.operations
        confirmation = self.get_body_argument("session", "", strip=False)
        works: dict[str, Callable[[], Any]] = {
            "backup": lambda: do.back_up(volume_id),
            "restore": lambda: do.restore(volume_id, None),
            "pin": lambda: do.pin(volume_id, True),
            "unpin": lambda: do.pin(volume_id, False),
            "delete": lambda: do.delete(volume_id, confirmation, backups=False),
        }
        if action not in works:
            raise NotFound("There is no such action.")
        await wiring.workers.run(works[action])


class SweepActionHandler(ActionHandler):
    """The form that begins a sweep."""

    async def _act(self, volume_id: str, action: str) -> None:
        await self.wiring.workers.run(lambda: self.wiring.operations.sweep(dry_run=False))


def row(view: View, now: datetime) -> dict[str, Any]:
    """Return what the page shows of one volume."""
    record = view.record
    return {
        "id": record.id,
        "session": record.session,
        "name": short_name(record.session),
        "state": record.state.value,
        "note": record.note,
        "pinned": record.pinned,
        "is_active": record.state is State.ACTIVE,
        "is_stopped": record.state is State.STOPPED,
        "is_pruned": record.state is State.PRUNED,
        "kernels": len(view.kernels),
        "holder": None if view.holder is None else str(view.holder),
        "size": "" if record.bytes is None else size(record.bytes),
        "expiry": _expiry(view, now),
        "backup": "none" if view.backup is None else f"{span(now - view.backup.created)} ago",
        "backup_time": None if view.backup is None else moment(view.backup.created),
        "backup_is_current": record.is_backed_up,
    }


def _expiry(view: View, now: datetime) -> str:
    if view.idle_shutdown_at is not None:
        return f"kernel is shut down {_when(view.idle_shutdown_at, now)}"
    if view.record.pinned:
        return "pinned"
    if view.due.prune is not None:
        return f"files are pruned {_when(view.due.prune, now)}"
    return "never" if view.record.state is State.STOPPED else ""


def _when(moment_: datetime, now: datetime) -> str:
    return "any moment now" if moment_ <= now else f"in {span(moment_ - now)}"


def page_handlers(wiring: Wiring) -> list[tuple[str, type[PageHandler], dict[str, Any]]]:
    """Return the page's paths, relative to the server's base URL, and their handlers."""
    known = {"wiring": wiring}
    return [
        (r"/volumes", PageHandler, known),
        (r"/volumes/(sweep)/(sweep)", SweepActionHandler, known),
        (r"/volumes/([^/]+)/([a-z]+)", ActionHandler, known),
    ]
