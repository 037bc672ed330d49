"""Tells each kernel its notebook, and follows the notebook when its session is renamed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from jupyter_server.services.sessions.sessionmanager import SessionManager

from provisioner.core.session import NOTEBOOK_VARIABLE, SERVER_VARIABLE
from provisioner.server.notebooks import api_path
from provisioner.server.upstream import current_session_type, session_type

NOTEBOOK = "notebook"
"""The type of a notebook's sessions; those of consoles and editors have a kernel but no notebook."""


class NotebookIdentity(SessionManager):
    """A session manager that passes the notebook's API path, with its drive, to the kernel.

    jupyter_server itself passes an absolute path without the contents drive (`JPY_SESSION_NAME`, see
    jupyter-server/jupyter_server#1100): `RTC:sub/a.ipynb` and `s3:bucket/a.ipynb` both become `<root>/a.ipynb`.
    """

    on_rename: Callable[[str, str], Awaitable[None]] | None = None
    """Called with the old and the new API path when a notebook's session is renamed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]  # jupyter_server's
        self._notebooks: dict[str, str] = {}

    def notebook_of(self, kernel_id: str) -> str | None:
        """Return the API path of a kernel's notebook; None if it has none."""
        return self._notebooks.get(kernel_id)

    def moved(self, old: str, new: str) -> None:
        """Update the paths of a notebook, or of all notebooks in a folder, that was moved in the file browser.

        A front end renames the sessions of its open notebooks only.
        """
        self._notebooks = {
            kernel: api_path.moved(path, old, new) for kernel, path in self._notebooks.items()
        }

    async def start_kernel_for_session(self, *args: Any, **kwargs: Any) -> str:
        """Called for a new session and for "change kernel", both times with the session's type."""
        with session_type(kwargs.get("type")):
            return await super().start_kernel_for_session(*args, **kwargs)

    def get_kernel_env(self, path: str | None, name: Any = None) -> dict[str, str]:
        """Called before a kernel starts and after a rename; returns the kernel's environment."""
        if current_session_type() != NOTEBOOK or not isinstance(path, str):
            return super().get_kernel_env(path, name)
        notebook = api_path.of_session(path, name)
        env = {**super().get_kernel_env(path, name), NOTEBOOK_VARIABLE: notebook}
        file = api_path.local_file(notebook, self.kernel_manager.root_dir)
        if file is not None:
            env[SERVER_VARIABLE] = file
        return env

    async def save_session(self, session_id: Any, *args: Any, **kwargs: Any) -> Any:
        """Called when a session is new; remembers the notebook of its kernel."""
        saved = super().save_session(session_id, *args, **kwargs)  # type: ignore[no-untyped-call]  # jupyter_server's
        model = await saved
        self._remember(model)
        return model

    async def update_session(self, session_id: str, **kwargs: Any) -> None:
        """Called when a session is renamed, moved, or gets another kernel."""
        before = await self._model(session_id)
        with session_type(kwargs.get("type", before["type"])):
            updated = super().update_session(session_id, **kwargs)  # type: ignore[no-untyped-call]  # jupyter_server's
            await updated
        after = await self._model(session_id)
        self._remember(after)
        old, new = _notebook(before), _notebook(after)
        if self.on_rename is not None and old is not None and new is not None and old != new:
            await self.on_rename(old, new)

    def _remember(self, model: dict[str, Any]) -> None:
        self._notebooks = {k: p for k, p in self._notebooks.items() if k in self.kernel_manager}
        path = _notebook(model)
        if path is not None:
            self._notebooks[model["kernel"]["id"]] = path

    async def _model(self, session_id: str) -> dict[str, Any]:
        found = self.get_session(session_id=session_id)  # type: ignore[no-untyped-call]  # jupyter_server's
        model: dict[str, Any] = await found
        return model


def with_notebook_identity(chosen: type[SessionManager]) -> type[SessionManager]:
    """Return a session manager class, the server's default or one that the user has set, with identity added."""
    if issubclass(chosen, NotebookIdentity):
        return chosen
    if chosen is SessionManager:
        return NotebookIdentity
    return type(f"NotebookIdentity{chosen.__name__}", (NotebookIdentity, chosen), {})


def _notebook(model: dict[str, Any]) -> str | None:
    """Return the API path of the notebook of a session's model; None if the session is of another type."""
    path = model.get("path")
    if model.get("type") != NOTEBOOK or not isinstance(path, str):
        return None
    return api_path.of_session(path, model.get("name"))
