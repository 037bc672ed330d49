"""How things are shown: columns, ages, sizes, complaints, and progress bars where there is a terminal."""

from __future__ import annotations

import json
import os
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, TextIO, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

T = TypeVar("T")

_GAP = "  "
_NARROWEST = 12
"""Cells that a column keeps however narrow the terminal is."""


@dataclass(frozen=True)
class Column(Generic[T]):
    """One column of a table.

    Parameters
    ----------
    title
        Its heading.
    text
        What it shows of a row.
    align
        Where the text stands.
    shrinks
        Whether its beginning may be left out on a terminal that is too narrow: the end of a path tells most.
    """

    title: str
    text: Callable[[T], str]
    align: Literal["left", "right"] = "left"
    shrinks: bool = False


def print_table(columns: Sequence[Column[T]], rows: Iterable[T]) -> None:
    """Print rows under headings, each column as wide as its widest text; a column without any text is left out.

    Written out here because laying out 2,000 volumes took `rich.table` about a second, and this a hundredth of it.
    On a terminal, columns that may shrink do so until a row fits; into a pipe goes the whole of it.
    """
    rows = list(rows)
    shown = [(column, [column.text(row) for row in rows]) for column in columns]
    shown = [(column, texts) for column, texts in shown if any(texts)]
    widths = [max(map(width, (column.title, *texts))) for column, texts in shown]
    if is_terminal(sys.stdout):
        _shrink(shown, widths)
    cells = [
        [_fitted(text, column, room) for text in (column.title, *texts)]
        for (column, texts), room in zip(shown, widths, strict=True)
    ]
    heading, *body = [_GAP.join(line).rstrip() for line in zip(*cells, strict=True)] or [""]
    print("\n".join([bold(heading), *body]))


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Print names and values, one pair to a line; a pair without a value is left out."""
    shown = [(name, value) for name, value in fields if value]
    room = max(len(name) for name, _ in shown)
    for name, value in shown:
        print(f"{bold(f'{name:<{room}}')}{_GAP}{value}")


def print_json(value: object) -> None:
    """Print a value for programs, a list with one item to a line; ASCII only, so that no encoding can spoil it.

    A single value is indented for people; for 2,000 volumes that took 30 ms, as Python then encodes them and not C.
    """
    if isinstance(value, list) and value:
        print("[" + ",\n ".join(map(json.dumps, value)) + "]")
    else:
        print(json.dumps(value, indent=2))


def complain(message: str) -> None:
    """Tell on stderr what failed."""
    print(f"jupyter volumes: {message}", file=sys.stderr)


def ago(moment: datetime | None, now: datetime) -> str:
    """Return how long ago something was, in the largest unit that fits (`3h ago`); empty for never."""
    if moment is None:
        return ""
    seconds = max(0, int((now - moment).total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit} ago"
    return f"{seconds}s ago"


def until(moment: datetime | None, now: datetime) -> str:
    """Return how long it is until something is done (`in 3h`); `due` if it is, empty for never.

    Rounded, where an age counts what is full: of ten minutes, a moment later, ten are left.
    """
    if moment is None:
        return ""
    seconds = (moment - now).total_seconds()
    if seconds <= 0:
        return "due"
    for unit, length, limit in (("s", 1, 60), ("m", 60, 60), ("h", 3600, 24)):
        if (count := round(seconds / length)) < limit:
            return f"in {count}{unit}"
    return f"in {round(seconds / 86400)}d"


def size(count: int | None) -> str:
    """Return a number of bytes in decimal units, as disks are sold and `ls --si` shows; empty for unknown."""
    if count is None:
        return ""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 10 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def width(text: str) -> int:
    """Return how many cells of a terminal a text takes: two for wide characters, none for combining ones."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def bold(text: str) -> str:
    """Return the text in bold where stdout is a terminal that can, and NO_COLOR does not forbid it."""
    return f"\x1b[1m{text}\x1b[0m" if is_terminal(sys.stdout) and _may_colour() else text


def is_terminal(stream: TextIO) -> bool:
    """Whether a person reads the stream, on a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


class Bars:
    """Progress bars at the bottom of a terminal, with lines printed above them. A context manager.

    `rich` is imported when the first of them is made.

    Parameters
    ----------
    stream
        The terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        self._progress: Progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(file=stream, highlight=False, markup=False, emoji=False),
        )
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def show(self, label: str, done: int, total: int) -> None:
        """Draw the bar of that label, a new one if there is none yet."""
        if label not in self._bars:
            self._bars[label] = self._progress.add_task(label, total=total)
        self._progress.update(self._bars[label], completed=done, total=total)

    def drop(self, label: str) -> None:
        """Take a bar away."""
        if label in self._bars:
            self._progress.remove_task(self._bars.pop(label))

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(line, soft_wrap=True)


def _shrink(shown: Sequence[tuple[Column[Any], list[str]]], widths: list[int]) -> None:
    """Take from the columns that may shrink what a row has too much."""
    room = shutil.get_terminal_size().columns
    for place, (column, _) in enumerate(shown):
        excess = sum(widths) + len(_GAP) * (len(widths) - 1) - room
        if excess > 0 and column.shrinks:
            widths[place] = min(widths[place], max(_NARROWEST, widths[place] - excess))


def _fitted(text: str, column: Column[Any], room: int) -> str:
    """Return a text that takes `room` cells."""
    if width(text) > room:
        while width(text) > room - 1:
            text = text[1:]
        text = f"…{text}"
    padding = " " * (room - width(text))
    return padding + text if column.align == "right" else text + padding


def _may_colour() -> bool:
    return not os.environ.get("NO_COLOR")
