"""Executes notebooks, each in its volume, and writes the executed notebooks.

nbclient starts the kernels with the environment that a Jupyter server would give them. So the provisioner chooses the
same session, and a batch run shares its files with the same notebook opened in JupyterLab.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from math import ceil
from pathlib import Path
from typing import IO

from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from traitlets.config import Config

from provisioner.cli.batch import notebook_file
from provisioner.cli.batch.client import BatchClient, Stopped
from provisioner.cli.batch.notebook_file import NotebookUnusable
from provisioner.cli.batch.reporting import Reporter
from provisioner.cli.batch.values import BatchOptions, Failure, Outcome, Run, Status
from provisioner.core.duration import format_duration
from provisioner.core.errors import VolumeError
from provisioner.core.session import (
    NOTEBOOK_VARIABLE,
    SERVER_VARIABLE,
    SESSION_VARIABLE,
    VOLUME_VARIABLE,
)

_GRACE = 3.0
"""Seconds that an interrupted cell has to end before its kernel is ended."""

_TAIL = 20
"""How many of the last lines that a kernel printed are shown when it died."""


class Stop:
    """Ends a batch early: the first request interrupts the running cells, the second ends their kernels at once."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()

    def request(self) -> None:
        """Request the end, for the first or the second time."""
        (self.second if self.first.is_set() else self.first).set()


async def execute(
    runs: Sequence[Run], options: BatchOptions, reporter: Reporter, stop: Stop
) -> list[Outcome]:
    """Execute notebooks in their order, `options.parallel` at a time; a failure does not prevent the other runs.

    When this returns or raises, all kernels have ended and their leases are released.

    Returns
    -------
    The outcomes, in the order of `runs`.
    """
    slots = asyncio.Semaphore(options.parallel)

    async def execute_one(run: Run) -> Outcome:
        async with slots:
            if stop.first.is_set():
                outcome = Outcome(run, Status.NOT_RUN)
            else:
                outcome = await _Execution(run, options, reporter, stop).outcome()
        reporter.ended(outcome)
        return outcome

    return list(await asyncio.gather(*map(execute_one, runs)))


class _Execution:
    """The execution of one notebook."""

    def __init__(self, run: Run, options: BatchOptions, reporter: Reporter, stop: Stop) -> None:
        self._run = run
        self._options = options
        self._reporter = reporter
        self._stop = stop
        self._done = 0
        self._cells = 0
        self._began = time.monotonic()

    async def outcome(self) -> Outcome:
        """Execute and write the notebook; return the outcome, any failure included."""
        try:
            notebook = await asyncio.to_thread(notebook_file.read, self._run.notebook)
            kernel = await asyncio.to_thread(self._run.kernel, notebook)
        except (NotebookUnusable, VolumeError) as error:
            return self._outcome(None, Status.FAILED, Failure("", str(error)))
        self._cells = notebook_file.clear(notebook)
        self._reporter.started(self._run, self._cells)
        with tempfile.TemporaryFile() as printed:
            client = self._client(notebook, kernel)
            status, failure = await self._execute(client, printed)
        if failure is not None:
            notebook_file.note_failure(notebook, failure.cell, failure.error, failure.message)
        if not client.is_up:
            return self._outcome(client, status, failure)
        return await self._written(client, notebook, status, failure)

    def _client(self, notebook: NotebookNode, kernel: str) -> BatchClient:
        options = self._options
        return BatchClient(
            notebook,
            self._count,
            kernel_name=kernel,
            timeout=_seconds(options.cell_timeout),
            startup_timeout=_seconds(options.startup_timeout),
            allow_errors=options.allow_errors,
            config=options.config or Config(),
        )

    async def _execute(
        self, client: BatchClient, printed: IO[bytes]
    ) -> tuple[Status, Failure | None]:
        work = asyncio.create_task(
            client.async_execute(
                env=kernel_environment(os.environ, self._run.notebook, self._options.session),
                cwd=str(self._run.notebook.parent),
                # What a kernel prints to its own streams would break the progress bars, and is shown if it dies.
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
            message = f"the cell ran longer than {format_duration(self._options.cell_timeout)}"
            return Status.FAILED, Failure("Timeout", message, _number(client.cell))
        except DeadKernelError:
            return self._failed_or_interrupted(), self._death(client, printed)
        except VolumeError as error:
            return Status.FAILED, Failure("", str(error))
        except Exception as error:  # noqa: BLE001 - a launcher may raise anything, and the other notebooks still run
            message = _first_line(str(error)) + _tail(printed)
            return self._failed_or_interrupted(), Failure(type(error).__name__, message)
        return Status.PASSED, None

    async def _until_done_or_stopped(
        self, work: asyncio.Task[NotebookNode], client: BatchClient
    ) -> None:
        """Wait for the end of the execution; when the batch is stopped, bring it about."""
        await _first_of(work, self._stop.first)
        if work.done():
            return
        if client.is_up:
            # A kernel that cannot be interrupted is ended below.
            with contextlib.suppress(Exception):
                await client.interrupt()
            await _first_of(work, self._stop.second, timeout=_GRACE)
        if not work.done():
            client.is_stopping = True
            client.shutdown_kernel = "immediate"
            await _cancelled(work)

    def _failed_or_interrupted(self) -> Status:
        return Status.INTERRUPTED if self._stop.first.is_set() else Status.FAILED

    def _death(self, client: BatchClient, printed: IO[bytes]) -> Failure | None:
        # nbclient reports a cancelled task as a dead kernel too.
        if client.is_stopping:
            return None
        return Failure("DeadKernel", "the kernel died" + _tail(printed), _number(client.cell))

    async def _written(
        self, client: BatchClient, notebook: NotebookNode, status: Status, failure: Failure | None
    ) -> Outcome:
        output = self._run.output
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
        return Outcome(self._run, status, self._done, self._cells, took, session, output, failure)

    def _count(self) -> None:
        self._done += 1
        self._reporter.cell_done(self._run, self._done, self._cells)


def kernel_environment(
    given: Mapping[str, str], notebook: Path, session: str | None
) -> dict[str, str]:
    """Return the environment for a notebook's kernel: with its path, as a server sets it, or with the session."""
    env = {name: value for name, value in given.items() if name != NOTEBOOK_VARIABLE}
    env[SERVER_VARIABLE] = str(notebook)
    if session is not None:
        env[SESSION_VARIABLE] = session
        # Beside VOLUME_VARIABLE, the session would count as inherited from a surrounding kernel.
        env.pop(VOLUME_VARIABLE, None)
    return env


async def _first_of(
    work: asyncio.Task[NotebookNode], event: asyncio.Event, timeout: float | None = None
) -> None:
    """Wait until the work is done or the event is set, at most `timeout` seconds."""
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait({work, waiting}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()


async def _cancelled(task: asyncio.Task[NotebookNode]) -> None:
    task.cancel()
    await asyncio.wait({task})


def _seconds(duration: timedelta | None) -> int | None:
    """Return whole seconds, as nbclient requires."""
    return None if duration is None else ceil(duration.total_seconds())


def _number(index: int | None) -> int | None:
    return None if index is None else index + 1


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def _tail(printed: IO[bytes]) -> str:
    """Return the last lines that a kernel printed, on lines of their own; empty if it printed nothing."""
    printed.seek(0)
    lines = printed.read().decode(errors="replace").strip().splitlines()[-_TAIL:]
    return "\n".join(("; it printed:", *lines)) if lines else ""
