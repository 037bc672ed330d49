"""What a batch run shows: bars on a terminal, else a line for each event; a summary, or JSON for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TextIO

from provisioner.cli.batch.outcome import Failure, Job, Listener, Outcome, Status
from provisioner.cli.output.terminal import Bars, complain, is_terminal
from provisioner.core.duration import format_duration


class Lines:
    """Writes a line when a notebook begins and when it ends."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def started(self, job: Job, cells: int) -> None:
        """Tell that it begins."""
        self._say(f"{job.label}: started ({_counted(cells, 'cell')})")

    def cell_done(self, job: Job, done: int, cells: int) -> None:
        """A line for each cell would be too much."""

    def ended(self, outcome: Outcome) -> None:
        """Tell how it went."""
        self._say(ending(outcome))

    def _say(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class Drawn:
    """Draws a bar for all notebooks and one for each that is being executed."""

    _ALL = "notebooks"

    def __init__(self, bars: Bars, notebooks: int) -> None:
        self._bars = bars
        self._notebooks = notebooks
        self._ended = 0
        bars.show(self._ALL, 0, notebooks)

    def started(self, job: Job, cells: int) -> None:
        """Draw its bar."""
        self._bars.show(job.label, 0, cells)

    def cell_done(self, job: Job, done: int, cells: int) -> None:
        """Move its bar on."""
        self._bars.show(job.label, done, cells)

    def ended(self, outcome: Outcome) -> None:
        """Take its bar away and tell how it went."""
        self._ended += 1
        self._bars.drop(outcome.job.label)
        self._bars.say(ending(outcome))
        self._bars.show(self._ALL, self._ended, self._notebooks)


@contextmanager
def progress_on(stream: TextIO, notebooks: int) -> Iterator[Listener]:
    """Show a run on `stream` as long as the context lasts."""
    if is_terminal(stream):
        with Bars(stream) as bars:
            yield Drawn(bars, notebooks)
    else:
        yield Lines(stream)


def ending(outcome: Outcome) -> str:
    """Return in one line how the execution of a notebook ended."""
    if outcome.session is None:
        return f"{outcome.job.label}: {outcome.status.value}"
    done = f"{outcome.cells_done} of {_counted(outcome.cells, 'cell')}"
    where = f" -> {outcome.output}" if outcome.output else ""
    return f"{outcome.job.label}: {outcome.status.value}, {done} in {_took(outcome.took)}{where}"


def summarize(outcomes: Sequence[Outcome], stream: TextIO) -> None:
    """Print how many notebooks ended how, and name each failure on stderr."""
    if len(outcomes) > 1:
        counts = Counter(outcome.status for outcome in outcomes)
        told = ", ".join(f"{counts[status]} {status.value}" for status in Status if counts[status])
        print(f"{len(outcomes)} notebooks: {told}", file=stream, flush=True)
    for outcome in outcomes:
        if outcome.failure is not None:
            complain(f"{outcome.job.label}: {outcome.failure}")


def described(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome in JSON's types; `took` is in seconds."""
    return {
        "notebook": str(outcome.job.notebook),
        "status": outcome.status.value,
        "session": outcome.session,
        "output": None if outcome.output is None else str(outcome.output.absolute()),
        "cells": outcome.cells,
        "cells_done": outcome.cells_done,
        "took": round(outcome.took.total_seconds(), 3),
        "failure": None if outcome.failure is None else _described_failure(outcome.failure),
    }


def _described_failure(failure: Failure) -> dict[str, Any]:
    return {"cell": failure.cell, "error": failure.error, "message": failure.message}


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _took(duration: timedelta) -> str:
    seconds = duration.total_seconds()
    return f"{seconds:.1f}s" if seconds < 10 else format_duration(duration)
