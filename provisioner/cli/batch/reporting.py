"""The outcomes of a batch, and their reports: progress, and a summary for people or JSON for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any, TextIO

from rich.progress import Progress, TaskID

from provisioner.cli.batch.plan import Run
from provisioner.cli.output.terminal import complain
from provisioner.core.duration import format_duration


class Status(Enum):
    """How the execution of a notebook ended."""

    PASSED = "passed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Failure:
    """Why a notebook failed; `cell` is the cell's number among all cells, from 1, and None if it was in none."""

    error: str
    message: str
    cell: int | None = None

    def __str__(self) -> str:
        """Return the failure as one line; for a kernel that died, its last output follows."""
        where = "" if self.cell is None else f"cell {self.cell}"
        return ": ".join(filter(None, (where, self.error, self.message)))


@dataclass(frozen=True)
class Outcome:
    """The outcome of one run. The cells are the code cells; `took` includes the start of the kernel.

    `session` is None if the kernel got no volume, and `output` if no executed notebook was written.
    """

    run: Run
    status: Status
    cells_done: int = 0
    cells: int = 0
    took: timedelta = timedelta()
    session: str | None = None
    output: Path | None = None
    failure: Failure | None = None


class Reporter:
    """Reports the progress of a batch: with a bar for all notebooks, and one for each that is being executed.

    If the bars are disabled, because there is no terminal, a line is printed when a run starts and when it ends.
    """

    def __init__(self, stream: TextIO, bars: Progress, notebooks: int) -> None:
        self._stream = stream
        self._bars = bars
        self._all = bars.add_task("notebooks", total=notebooks)
        self._tasks: dict[Run, TaskID] = {}

    def started(self, run: Run, cells: int) -> None:
        """Report that a run starts its kernel."""
        if self._bars.disable:
            self._print(f"{run.label}: started ({_cells(cells)})")
        self._tasks[run] = self._bars.add_task(run.label, total=cells)

    def cell_done(self, run: Run) -> None:
        """Report that one more code cell was executed; a line for each would be too much."""
        self._bars.advance(self._tasks[run])

    def ended(self, outcome: Outcome) -> None:
        """Report that a run has ended, or was skipped."""
        if outcome.run in self._tasks:
            self._bars.remove_task(self._tasks.pop(outcome.run))
        self._print(_ending(outcome))
        self._bars.advance(self._all)

    def _print(self, line: str) -> None:
        if self._bars.disable:
            print(line, file=self._stream, flush=True)
        else:
            self._bars.console.print(line, soft_wrap=True)


def _ending(outcome: Outcome) -> str:
    """Return an outcome as one line."""
    if outcome.session is None:
        return f"{outcome.run.label}: {outcome.status.value}"
    seconds = outcome.took.total_seconds()
    took = f"{seconds:.1f}s" if seconds < 10 else format_duration(outcome.took)
    done = f"{outcome.cells_done} of {_cells(outcome.cells)} in {took}"
    where = f" -> {outcome.output}" if outcome.output else ""
    return f"{outcome.run.label}: {outcome.status.value}, {done}{where}"


def summarize(outcomes: Sequence[Outcome], stream: TextIO) -> None:
    """Print the number of notebooks with each status, and each failure on stderr."""
    if len(outcomes) > 1:
        counts = Counter(outcome.status for outcome in outcomes)
        numbers = ", ".join(f"{counts[s]} {s.value}" for s in Status if counts[s])
        print(f"{len(outcomes)} notebooks: {numbers}", file=stream, flush=True)
    for outcome in outcomes:
        if outcome.failure is not None:
            complain(f"{outcome.run.label}: {outcome.failure}")


def described(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome for `print_json`; `took` is in seconds."""
    return {
        "notebook": outcome.run.notebook,
        "status": outcome.status,
        "session": outcome.session,
        "output": None if outcome.output is None else outcome.output.absolute(),
        "cells": outcome.cells,
        "cells_done": outcome.cells_done,
        "took": round(outcome.took.total_seconds(), 3),
        "failure": outcome.failure,
    }


def _cells(number: int) -> str:
    return "1 cell" if number == 1 else f"{number} cells"
