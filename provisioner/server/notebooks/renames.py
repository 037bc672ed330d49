"""Follows notebooks that are renamed, moved or deleted, alone or with their folder, running or not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from logging import Logger
from typing import Any

from provisioner.core.errors import VolumeError
from provisioner.core.record import Record
from provisioner.pool.pool import Pool
from provisioner.server.background.threads import Workers
from provisioner.server.notebooks import api_path

CONTENTS_SCHEMA = "https://events.jupyter.org/jupyter_server/contents_service/v1"
DELETED_NOTE = "notebook deleted"


class RenameFollower:
    """Relabels the volumes of notebooks that move, and notes on a volume that its notebook was deleted.

    `root` is the server's root directory.
    """

    def __init__(self, pool: Pool, root: str, workers: Workers, log: Logger) -> None:
        self._pool = pool
        self._root = root
        self._workers = workers
        self._log = log
        self.on_moved: Callable[[str, str], None] = lambda old, new: None
        """Called with the old and the new API path of a notebook or folder that was moved in the file browser."""
        # In the order of the events: a notebook may move twice in a moment.
        self._in_order = asyncio.Lock()

    async def on_contents_event(self, logger: Any, schema_id: str, data: dict[str, Any]) -> None:
        """Called by the server's event logger for each action in the file browser; never fails."""
        if data["action"] == "rename" and "source_path" in data:
            self.on_moved(data["source_path"], data["path"])
            await self._do(self._relabel, data["source_path"], data["path"])
        elif data["action"] == "delete":
            await self._do(self._note, data["path"])

    async def session_renamed(self, old: str, new: str) -> None:
        """Relabel the volume of a notebook whose session has a new path. Never fails.

        "Save as" changes the path as well, but the old notebook stays and keeps its volume.
        """
        await self._do(self._relabel_unless_copied, old, new)

    async def _do(self, work: Callable[..., None], *paths: str) -> None:
        async with self._in_order:
            try:
                await self._workers.run(lambda: work(*paths))
            except (VolumeError, OSError) as error:
                changed = " to ".join(map(repr, paths))
                self._log.warning("Volumes could not follow the change of %s: %s", changed, error)

    def _relabel_unless_copied(self, old: str, new: str) -> None:
        file = api_path.local_file(old, self._root)
        if file is None or not os.path.exists(file):
            self._relabel(old, new)

    def _relabel(self, old: str, new: str) -> None:
        before = api_path.session_name(old.strip("/"), self._root)
        after = api_path.session_name(new.strip("/"), self._root)
        for record in self._under(before):
            session = after + record.session[len(before) :]
            if self._pool.catalog.relabel(record.id, session) is None:
                self._log.warning(
                    "The volume of %r keeps its name: another volume in use is named %r.",
                    record.session,
                    session,
                )

    def _note(self, path: str) -> None:
        for record in self._under(api_path.session_name(path.strip("/"), self._root)):
            self._pool.catalog.note(record.id, DELETED_NOTE)

    def _under(self, name: str) -> list[Record]:
        """Return the volume of the notebook with a session name, and of all notebooks in a folder of that name."""
        folder = name.rstrip("/") + "/"
        return [r for r in self._pool.volumes() if f"{r.session}/".startswith(folder)]
