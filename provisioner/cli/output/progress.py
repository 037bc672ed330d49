"""Progress of work: bars on a terminal, and lines for the steps of hydration."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TextIO

from provisioner.cli.output.terminal import is_terminal
from provisioner.core.progress import Progress, StepProgress, no_progress

if TYPE_CHECKING:
    from rich import progress as rich_progress


class Bars:
    """Progress bars at the bottom of a terminal, with lines printed above them.

    Parameters
    ----------
    drawn
        The bars of `rich`.
    """

    def __init__(self, drawn: rich_progress.Progress) -> None:
        self._drawn = drawn
        self._tasks: dict[str, rich_progress.TaskID] = {}

    def update(self, label: str, done: int, total: int | None) -> None:
        """Draw the bar of that label, a new one if there is none yet."""
        if label not in self._tasks:
            self._tasks[label] = self._drawn.add_task(label, total=total)
        self._drawn.update(self._tasks[label], completed=done, total=total)

    def remove(self, label: str) -> None:
        """Remove the bar of that label, if there is one."""
        if label in self._tasks:
            self._drawn.remove_task(self._tasks.pop(label))

    def print(self, line: str) -> None:
        """Print a line above the bars."""
        self._drawn.console.print(line, soft_wrap=True)


@contextmanager
def count_bars(stream: TextIO) -> Iterator[Bars | None]:
    """Show bars that count things while the context lasts; yields None if `stream` is not a terminal."""
    if not is_terminal(stream):
        yield None
        return
    # Imported here: most commands draw no bars.
    from rich.progress import MofNCompleteColumn, TimeElapsedColumn

    with _drawn(stream, MofNCompleteColumn(), TimeElapsedColumn(), transient=False) as drawn:
        yield Bars(drawn)


@contextmanager
def byte_bar(label: str, quiet: bool = False) -> Iterator[Progress]:
    """Show one bar with bytes, rate and remaining time on stderr while the context lasts; yields its callback.

    Parameters
    ----------
    label
        What is done to which session.
    quiet
        Show nothing, as for JSON.
    """
    if quiet or not is_terminal(sys.stderr):
        yield no_progress
        return
    from rich.progress import DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with _drawn(sys.stderr, *columns, transient=True) as drawn:
        bars = Bars(drawn)
        bars.update(label, 0, None)
        yield partial(bars.update, label)


def step_lines(stream: TextIO) -> StepProgress:
    """Return a callback that prints each report of a hydration step as a line."""

    def report(step: str, message: str, fraction: float | None = None) -> None:
        done = "" if fraction is None else f" ({fraction:.0%})"
        print(f"{step}: {message}{done}", file=stream, flush=True)

    return report


def _drawn(
    stream: TextIO, *columns: rich_progress.ProgressColumn, transient: bool
) -> rich_progress.Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *columns,
        console=Console(file=stream, highlight=False, markup=False, emoji=False),
        transient=transient,
    )
