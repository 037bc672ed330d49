"""Work on volumes as a terminal shows it: bytes done, rate and what remains; a plain line each elsewhere."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from provisioner.cli.output.terminal import is_terminal, size
from provisioner.core.progress import Progress


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C and SIGTERM set, so that work ends in good order; the second one ends it at once."""
    cancel = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: FrameType | None) -> None:
        cancel.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, ask)
    try:
        yield cancel
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def transfer(label: str, quiet: bool = False) -> Iterator[Progress]:
    """Show one piece of work; yield what is told the bytes done and the bytes in all.

    Parameters
    ----------
    label
        What is done to which session.
    quiet
        Show nothing, as for JSON.
    """
    if quiet or not is_terminal(sys.stderr):
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn
    from rich.progress import Progress as Bars
    from rich.progress import TimeRemainingColumn as Remaining
    from rich.progress import TransferSpeedColumn as Rate

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    with Bars(*columns, Rate(), Remaining(), console=console, transient=True) as bars:
        bar = bars.add_task(label, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


def amount(count: int, of: int) -> str:
    """Return `2.0 GB in 512 MB` for files and the backup that holds them."""
    return f"{size(of)} in {size(count)}"
