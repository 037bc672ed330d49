"""Executes notebooks, each in its volume, and writes what came out; shows nothing and asks nothing.

Kernels are started through nbclient with the environment that a Jupyter server would give them, so the provisioner
decides whose volume it is, and a batch run shares its files with the same notebook opened in JupyterLab.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from math import ceil
from pathlib import Path
from typing import IO, Any

from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from traitlets.config import Config

from provisioner.cli.batch import notebook_file
from provisioner.cli.batch.client import BatchClient, Stopped
from provisioner.cli.batch.notebook_file import NotebookUnusable
from provisioner.cli.batch.outcome import Conditions, Failure, Job, Listener, Outcome, Status
from provisioner.core.duration import format_duration
from provisioner.core.errors import VolumeError
from provisioner.core.session import (
    NOTEBOOK_VARIABLE,
    SERVER_VARIABLE,
    SESSION_VARIABLE,
    VOLUME_VARIABLE,
)

_GRACE = 3.0
"""Seconds that an interrupted cell gets to end by itself before its kernel is ended."""

_TAIL = 20
"""Lines shown of what a kernel printed before it died."""


class Stop:
    """Ends a run early: first with an interrupt for the running cells, and when asked again, at once."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._insisted = asyncio.Event()

    def ask(self) -> None:
        """Ask once, or insist."""
        (self._insisted if self._asked.is_set() else self._asked).set()

    @property
    def is_asked(self) -> bool:
        """Whether the run is to end."""
        return self._asked.is_set()

    async def asked(self) -> None:
        """Wait until it is asked."""
        await self._asked.wait()

    async def insisted(self) -> None:
        """Wait until it is asked a second time."""
        await self._insisted.wait()


async def execute(
    jobs: Sequence[Job], conditions: Conditions, listener: Listener, stop: Stop
) -> list[Outcome]:
    """Execute notebooks in their order, some at a time; one that fails never keeps the others from running.

    When this returns, however that comes about, all kernels have ended and their leases are released.

    Returns
    -------
    What became of each, in the order of `jobs`.
    """
    places = asyncio.Semaphore(conditions.parallel)

    async def in_turn(job: Job) -> Outcome:
        async with places:
            if stop.is_asked:
                outcome = Outcome(job, Status.NOT_RUN)
            else:
                outcome = await _Execution(job, conditions, listener, stop).run()
        listener.ended(outcome)
        return outcome

    return list(await asyncio.gather(*map(in_turn, jobs)))


class _Execution:
    """The execution of one notebook."""

    def __init__(self, job: Job, conditions: Conditions, listener: Listener, stop: Stop) -> None:
        self._job = job
        self._conditions = conditions
        self._listener = listener
        self._stop = stop
        self._done = 0
        self._cells = 0
        self._began = time.monotonic()

    async def run(self) -> Outcome:
        """Execute and write; whatever goes wrong is in the outcome."""
        try:
            notebook = await asyncio.to_thread(notebook_file.read, self._job.notebook)
            kernel = await asyncio.to_thread(self._job.kernel, notebook)
        except (NotebookUnusable, VolumeError) as error:
            return self._outcome(None, Status.FAILED, Failure("", str(error)))
        self._cells = notebook_file.clear(notebook)
        self._listener.started(self._job, self._cells)
        with tempfile.TemporaryFile() as printed:
            client = self._client(notebook, kernel)
            status, failure = await self._execute(client, printed)
        if failure is not None:
            notebook_file.note_failure(notebook, failure.cell, failure.error, failure.message)
        if not client.is_up:
            return self._outcome(client, status, failure)
        return await self._written(client, notebook, status, failure)

    def _client(self, notebook: NotebookNode, kernel: str) -> BatchClient:
        conditions = self._conditions
        return BatchClient(
            notebook,
            self._count,
            kernel_name=kernel,
            timeout=_seconds(conditions.cell_timeout),
            startup_timeout=_seconds(conditions.startup_timeout),
            allow_errors=conditions.allow_errors,
            config=conditions.config or Config(),
        )

    async def _execute(
        self, client: BatchClient, printed: IO[bytes]
    ) -> tuple[Status, Failure | None]:
        work = asyncio.create_task(
            client.async_execute(
                env=kernel_environment(os.environ, self._job.notebook, self._conditions.session),
                cwd=str(self._job.notebook.parent),
                # What a kernel prints past its frontend would tear the progress bars, and is wanted if it dies.
                stdout=printed.fileno(),
                stderr=printed.fileno(),
            )
        )
        try:
            await self._until_done_or_stopped(work, client)
        except asyncio.CancelledError:
            await _cancelled(work)
            raise
        try:
            await work
        except (Stopped, asyncio.CancelledError):
            return Status.INTERRUPTED, None
        except CellExecutionError as error:
            failure = Failure(error.ename, _first_line(error.evalue), _number(client.cell))
            return self._failed_or_interrupted(), failure
        except CellTimeoutError:
            said = f"the cell ran longer than {format_duration(self._conditions.cell_timeout)}"
            return Status.FAILED, Failure("Timeout", said, _number(client.cell))
        except DeadKernelError:
            return self._failed_or_interrupted(), self._death(client, printed)
        except VolumeError as error:
            return Status.FAILED, Failure("", str(error))
        except Exception as error:  # noqa: BLE001 - a launcher may raise anything; the other notebooks still run
            told = _first_line(str(error)) + _tail(printed)
            return self._failed_or_interrupted(), Failure(type(error).__name__, told)
        return Status.PASSED, None

    async def _until_done_or_stopped(
        self, work: asyncio.Task[NotebookNode], client: BatchClient
    ) -> None:
        """Wait for the end; when the run is stopped, see to it that there is one soon."""
        async with _waiting(self._stop.asked()) as asked:
            await asyncio.wait({work, asked}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return
        if client.is_up:
            # A kernel that cannot be interrupted is ended below.
            with contextlib.suppress(Exception):
                await client.interrupt()
            async with _waiting(self._stop.insisted()) as insisted:
                await asyncio.wait(
                    {work, insisted}, timeout=_GRACE, return_when=asyncio.FIRST_COMPLETED
                )
        if not work.done():
            client.is_stopping = True
            client.shutdown_kernel = "immediate"
            await _cancelled(work)

    def _failed_or_interrupted(self) -> Status:
        return Status.INTERRUPTED if self._stop.is_asked else Status.FAILED

    def _death(self, client: BatchClient, printed: IO[bytes]) -> Failure | None:
        # nbclient takes a cancelled task for a dead kernel as well.
        if client.is_stopping:
            return None
        return Failure("DeadKernel", "the kernel died" + _tail(printed), _number(client.cell))

    async def _written(
        self, client: BatchClient, notebook: NotebookNode, status: Status, failure: Failure | None
    ) -> Outcome:
        output = self._job.output
        try:
            await asyncio.to_thread(notebook_file.write, notebook, output)
        except OSError as error:
            reason = f"{output} cannot be written ({error.strerror or error})"
            unwritten = Failure("", reason if failure is None else f"{failure}; and {reason}")
            return self._outcome(client, Status.FAILED, unwritten)
        return self._outcome(client, status, failure, output)

    def _outcome(
        self,
        client: BatchClient | None,
        status: Status,
        failure: Failure | None,
        output: Path | None = None,
    ) -> Outcome:
        took = timedelta(seconds=time.monotonic() - self._began)
        session = None if client is None else client.session
        return Outcome(self._job, status, self._done, self._cells, took, session, output, failure)

    def _count(self) -> None:
        self._done += 1
        self._listener.cell_done(self._job, self._done, self._cells)


def kernel_environment(
    given: Mapping[str, str], notebook: Path, session: str | None
) -> dict[str, str]:
    """Return the environment for a notebook's kernel: what a server would say of its path, or the run's session."""
    env = {name: value for name, value in given.items() if name != NOTEBOOK_VARIABLE}
    env[SERVER_VARIABLE] = str(notebook)
    if session is not None:
        env[SESSION_VARIABLE] = session
        # In the environment of a kernel of that very session, the name would pass for one merely inherited.
        env.pop(VOLUME_VARIABLE, None)
    return env


@asynccontextmanager
async def _waiting(event: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    task: asyncio.Task[None] = asyncio.create_task(event)
    try:
        yield task
    finally:
        task.cancel()


async def _cancelled(task: asyncio.Task[NotebookNode]) -> None:
    task.cancel()
    await asyncio.wait({task})


def _seconds(duration: timedelta | None) -> int | None:
    """Return whole seconds, as nbclient's settings are."""
    return None if duration is None else ceil(duration.total_seconds())


def _number(index: int | None) -> int | None:
    return None if index is None else index + 1


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def _tail(printed: IO[bytes]) -> str:
    """Return the end of what a kernel printed, on lines of its own; empty if it printed nothing."""
    printed.seek(0)
    said = printed.read().decode(errors="replace").strip().splitlines()[-_TAIL:]
    return "\n".join(("; it printed:", *said)) if said else ""
