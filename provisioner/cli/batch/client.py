"""A client of nbclient that can be one of several in a process, and can be stopped between and within cells."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from nbclient import NotebookClient
from nbformat import NotebookNode
from traitlets import Integer

from provisioner.cli.batch.notebook_file import is_executable


class Stopped(Exception):
    """The batch is being stopped, so no further cell starts."""


class BatchClient(NotebookClient):
    """A client that leaves signals to its caller, and reports each code cell that was executed to `on_cell`."""

    # nbclient refuses None, although jupyter_client then waits without a limit.
    startup_timeout = Integer(60, allow_none=True)  # type: ignore[assignment]

    def __init__(self, notebook: NotebookNode, on_cell: Callable[[], None], **options: Any) -> None:
        super().__init__(notebook, **options)
        self._on_cell = on_cell
        self.is_stopping = False
        self.is_up = False
        self.session: str | None = None
        self.cell: int | None = None  # the number of the running cell among all cells, from 1
        self.done = 0

    @asynccontextmanager
    async def async_setup_kernel(self, **kwargs: Any) -> AsyncIterator[None]:
        """Start the kernel, and end it afterwards.

        The method of nbclient also handles SIGINT and SIGTERM for the whole process: of several clients, the last one
        to start would get all signals, and the first one to end would remove the handlers of all.
        """
        self.create_kernel_manager()
        assert self.km is not None
        try:
            await self.async_start_new_kernel(**kwargs)
            self.session = getattr(self.km.provisioner, "session", None)
            await self.async_start_new_kernel_client()
            self.is_up = True
            yield
        finally:
            # None if the client got no answer and has cleaned up itself.
            if self.km is not None:
                await self._async_cleanup_kernel()

    async def async_execute_cell(
        self, cell: NotebookNode, cell_index: int, *args: Any, **kwargs: Any
    ) -> NotebookNode:
        """Execute one cell, unless the batch is being stopped."""
        if self.is_stopping:
            raise Stopped
        self.cell = cell_index + 1
        executed = await super().async_execute_cell(cell, cell_index, *args, **kwargs)
        self.cell = None
        if is_executable(cell):
            self.done += 1
            self._on_cell()
        return executed
