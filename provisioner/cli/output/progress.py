"""Progress of work: bars on a terminal, and lines for the steps of hydration."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, TextIO

from provisioner.cli.output.terminal import is_terminal
from provisioner.core.progress import Progress, StepProgress, no_progress

if TYPE_CHECKING:
    from rich import progress as rich_progress

# The functions import `rich` themselves: it takes 0.2 s, and most commands draw no bars.


@contextmanager
def count_bars(stream: TextIO) -> Iterator[rich_progress.Progress]:
    """Show bars that count things while the context lasts; they are disabled if `stream` is not a terminal."""
    from rich.progress import MofNCompleteColumn, TimeElapsedColumn

    columns = (MofNCompleteColumn(), TimeElapsedColumn())
    bars = _bars(stream, *columns, disable=not is_terminal(stream))
    # Older versions of rich print an empty line even for disabled bars.
    with nullcontext() if bars.disable else bars:
        yield bars


@contextmanager
def byte_bar(label: str, quiet: bool = False) -> Iterator[Progress]:
    """Show one bar with bytes, rate and remaining time on stderr while the context lasts; yields its callback.

    Nothing is shown if `quiet`, as for JSON.
    """
    if quiet or not is_terminal(sys.stderr):
        yield no_progress
        return
    from rich.progress import DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with _bars(sys.stderr, *columns, transient=True) as bars:
        task = bars.add_task(label, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def step_lines(stream: TextIO) -> StepProgress:
    """Return a callback that prints each report of a hydration step as a line."""

    def report(step: str, message: str, fraction: float | None = None) -> None:
        done = "" if fraction is None else f" ({fraction:.0%})"
        print(f"{step}: {message}{done}", file=stream, flush=True)

    return report


def _bars(
    stream: TextIO,
    *columns: rich_progress.ProgressColumn,
    disable: bool = False,
    transient: bool = False,
) -> rich_progress.Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *columns,
        console=Console(file=stream, highlight=False, markup=False, emoji=False),
        disable=disable,
        transient=transient,
    )
