"""Executes notebooks, each in its volume, and writes the executed notebooks.

nbclient starts the kernels with the environment that a Jupyter server would give them. So the provisioner chooses the
same session, and a batch run shares its files with the same notebook opened in JupyterLab.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import IO, Any

from jupyter_core.utils import ensure_async
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from provisioner.cli.batch import notebook_file
from provisioner.cli.batch.client import BatchClient, Stopped
from provisioner.cli.batch.plan import Run, kernel_for
from provisioner.cli.batch.reporting import Failure, Outcome, Reporter, Status
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
    """The signals that end a batch: the first interrupts the running cells, the second ends their kernels at once."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.first: asyncio.Future[int] = loop.create_future()
        self.second: asyncio.Future[int] = loop.create_future()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # Signals that `nohup` or the `&` of a shell made us ignore stay ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._receive, number)  # until `asyncio.run` ends

    def _receive(self, number: int) -> None:
        request = self.second if self.first.done() else self.first
        if not request.done():
            request.set_result(number)


async def execute(
    runs: Sequence[Run],
    reporter: Reporter,
    stop: Stop,
    *,
    parallel: int,
    session: str | None,
    **options: Any,
) -> list[Outcome]:
    """Execute notebooks; a failure does not prevent the other runs. Return the outcomes, in the order of `runs`.

    When this returns, all kernels have ended and their leases are released; if it raises, `asyncio.run` cancels the
    other runs, which brings that about.

    If the session is None, each notebook has that of its own path. The options are those of nbclient.
    """
    slots = asyncio.Semaphore(parallel)

    async def execute_one(run: Run) -> Outcome:
        async with slots:
            if stop.first.done():
                outcome = Outcome(run, Status.NOT_RUN)
            else:
                outcome = await _execute(run, reporter, stop, session, options)
        reporter.ended(outcome)
        return outcome

    return list(await asyncio.gather(*map(execute_one, runs)))


async def _execute(
    run: Run, reporter: Reporter, stop: Stop, session: str | None, options: Mapping[str, Any]
) -> Outcome:
    """Execute and write one notebook; return the outcome, any failure included."""
    began = time.monotonic()
    try:
        notebook = await asyncio.to_thread(notebook_file.read, run.notebook)
        kernel = run.kernel or await asyncio.to_thread(kernel_for, notebook)
    except VolumeError as error:
        return Outcome(run, Status.FAILED, failure=Failure("", str(error)))
    cells = notebook_file.clear(notebook)
    reporter.started(run, cells)
    count = partial(reporter.cell_done, run)
    client = BatchClient(notebook, count, kernel_name=kernel, **options)
    status, failure = await _run_cells(client, run, session, stop)
    output = None
    if client.is_up:
        if failure is not None:
            notebook_file.note_failure(notebook, failure)
        try:
            await asyncio.to_thread(notebook_file.write, notebook, run.output)
            output = run.output
        except OSError as error:
            reason = f"{run.output} cannot be written ({error.strerror or error})"
            failure = Failure("", reason if failure is None else f"{failure}; and {reason}")
            status = Status.FAILED
    took = timedelta(seconds=time.monotonic() - began)
    return Outcome(run, status, client.done, cells, took, client.session, output, failure)


async def _run_cells(
    client: BatchClient, run: Run, session: str | None, stop: Stop
) -> tuple[Status, Failure | None]:
    with tempfile.TemporaryFile() as printed:
        work = asyncio.create_task(
            client.async_execute(
                env=_environment(run, session),
                cwd=str(run.notebook.parent),
                # What a kernel prints to its own streams would break the progress bars, and is shown if it dies.
                stdout=printed.fileno(),
                stderr=printed.fileno(),
            )
        )
        await _first_of(work, stop.first)
        if not work.done():
            await _end(client, work, stop)
        try:
            await work
        except (Stopped, asyncio.CancelledError):
            failure = None
        except Exception as error:  # noqa: BLE001 - a launcher may raise anything, and the other notebooks still run
            failure = _failure(error, client, printed)
        else:
            return Status.PASSED, None
    return Status.INTERRUPTED if stop.first.done() else Status.FAILED, failure


async def _end(client: BatchClient, work: asyncio.Task[Any], stop: Stop) -> None:
    """Interrupt the running cell; if that does not end the work in time, end the kernel."""
    client.is_stopping = True
    if client.is_up:
        # A kernel that cannot be interrupted, or has ended already, needs no more here.
        with contextlib.suppress(Exception):
            assert client.km is not None
            await ensure_async(client.km.interrupt_kernel())
        await _first_of(work, stop.second, timeout=_GRACE)
    if not work.done():
        client.shutdown_kernel = "immediate"
        work.cancel()
        await asyncio.wait({work})


def _failure(error: Exception, client: BatchClient, printed: IO[bytes]) -> Failure | None:
    """Return what an error of nbclient, or of a kernel's start, means to the user."""
    match error:
        case CellExecutionError():
            return Failure(error.ename, _first_line(error.evalue), client.cell)
        case CellTimeoutError():
            message = f"the cell ran longer than {format_duration(timedelta(seconds=client.timeout or 0))}"
            return Failure("Timeout", message, client.cell)
        case DeadKernelError():
            # nbclient reports a cancelled task as a dead kernel too.
            message = f"the kernel died{_tail(printed)}"
            return None if client.is_stopping else Failure("DeadKernel", message, client.cell)
        case VolumeError():
            return Failure("", str(error))
    return Failure(type(error).__name__, _first_line(str(error)) + _tail(printed))


def _environment(run: Run, session: str | None) -> dict[str, str]:
    """Return the environment for a notebook's kernel: with its path, as a server sets it, or with the session."""
    env = {**os.environ, SERVER_VARIABLE: str(run.notebook)}
    env.pop(NOTEBOOK_VARIABLE, None)
    if session is not None:
        env[SESSION_VARIABLE] = session
        # Beside VOLUME_VARIABLE, the session would count as inherited from a surrounding kernel.
        env.pop(VOLUME_VARIABLE, None)
    return env


async def _first_of(*futures: asyncio.Future[Any], timeout: float | None = None) -> None:
    await asyncio.wait(futures, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def _tail(printed: IO[bytes]) -> str:
    """Return the last lines that a kernel printed, on lines of their own; empty if it printed nothing."""
    printed.seek(0)
    lines = printed.read().decode(errors="replace").strip().splitlines()[-_TAIL:]
    return "\n".join(("; it printed:", *lines)) if lines else ""
