"""Reports a batch: its progress, and a summary for people or JSON for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TextIO

from provisioner.cli.batch.values import Outcome, Run, Status
from provisioner.cli.output.progress import Bars, count_bars
from provisioner.cli.output.terminal import complain
from provisioner.core.duration import format_duration


class Reporter:
    """Reports the progress of a batch: with bars, or with a line when a run starts and when it ends.

    Parameters
    ----------
    stream
        Where lines are printed.
    bars
        Draw one bar for all notebooks, and one for each that is being executed; None: there is no terminal.
    notebooks
        The number of notebooks.
    """

    _ALL = "notebooks"

    def __init__(self, stream: TextIO, bars: Bars | None, notebooks: int) -> None:
        self._stream = stream
        self._bars = bars
        self._notebooks = notebooks
        self._ended = 0
        if bars is not None:
            bars.update(self._ALL, 0, notebooks)

    def started(self, run: Run, cells: int) -> None:
        """Report that a run starts its kernel."""
        if self._bars is None:
            self._print(f"{run.label}: started ({_counted(cells, 'cell')})")
        else:
            self._bars.update(run.label, 0, cells)

    def cell_done(self, run: Run, done: int, cells: int) -> None:
        """Report that one more code cell was executed; a line for each would be too much."""
        if self._bars is not None:
            self._bars.update(run.label, done, cells)

    def ended(self, outcome: Outcome) -> None:
        """Report that a run has ended, or was skipped."""
        self._ended += 1
        if self._bars is None:
            self._print(_ending(outcome))
        else:
            self._bars.remove(outcome.run.label)
            self._bars.print(_ending(outcome))
            self._bars.update(self._ALL, self._ended, self._notebooks)

    def _print(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


@contextmanager
def reporter_on(stream: TextIO, notebooks: int) -> Iterator[Reporter]:
    """Report a batch on `stream` while the context lasts."""
    with count_bars(stream) as bars:
        yield Reporter(stream, bars, notebooks)


def _ending(outcome: Outcome) -> str:
    """Return an outcome as one line."""
    if outcome.session is None:
        return f"{outcome.run.label}: {outcome.status.value}"
    done = f"{outcome.cells_done} of {_counted(outcome.cells, 'cell')}"
    where = f" -> {outcome.output}" if outcome.output else ""
    return f"{outcome.run.label}: {outcome.status.value}, {done} in {_took(outcome.took)}{where}"


def summarize(outcomes: Sequence[Outcome], stream: TextIO) -> None:
    """Print the number of notebooks with each status, and each failure on stderr."""
    if len(outcomes) > 1:
        counts = Counter(outcome.status for outcome in outcomes)
        numbers = ", ".join(
            f"{counts[status]} {status.value}" for status in Status if counts[status]
        )
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


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _took(duration: timedelta) -> str:
    seconds = duration.total_seconds()
    return f"{seconds:.1f}s" if seconds < 10 else format_duration(duration)
