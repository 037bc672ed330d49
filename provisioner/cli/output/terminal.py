"""Prints tables, fields, JSON and complaints; formats ages and sizes."""

from __future__ import annotations

import json
import os
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Generic, Literal, TextIO, TypeVar

T = TypeVar("T")

_GAP = "  "
_NARROWEST = 12
"""The cells that a column keeps on the narrowest terminal."""


@dataclass(frozen=True)
class Column(Generic[T]):
    """One column of a table: its heading, and a function that returns its text for a row.

    If it `shrinks`, the beginning of its texts may be cut on a narrow terminal: the end of a path identifies it best.
    """

    title: str
    text: Callable[[T], str]
    align: Literal["left", "right"] = "left"
    shrinks: bool = False


def print_table(columns: Sequence[Column[T]], rows: Iterable[T]) -> None:
    """Print rows under headings, each column as wide as its widest text; omits columns without any text.

    Not by `rich.table`, which took about a second to lay out 2,000 volumes: a hundred times as long. On a terminal,
    columns that may shrink do so until a row fits; a pipe gets all texts whole.
    """
    rows = list(rows)
    shown = [(column, [column.text(row) for row in rows]) for column in columns]
    shown = [(column, texts) for column, texts in shown if any(texts)]
    widths = [max(map(width, (column.title, *texts))) for column, texts in shown]
    if is_terminal(sys.stdout):
        room = shutil.get_terminal_size().columns
        for index, (column, _) in enumerate(shown):
            excess = sum(widths) + len(_GAP) * (len(widths) - 1) - room
            if excess > 0 and column.shrinks:
                widths[index] = min(widths[index], max(_NARROWEST, widths[index] - excess))
    padded = [
        [_fitted(text, column, cells) for text in (column.title, *texts)]
        for (column, texts), cells in zip(shown, widths, strict=True)
    ]
    heading, *body = [_GAP.join(line).rstrip() for line in zip(*padded, strict=True)] or [""]
    print("\n".join([bold(heading), *body]))


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Print names and values, one pair per line; omits pairs without a value."""
    shown = [(name, value) for name, value in fields if value]
    room = max(len(name) for name, _ in shown)
    for name, value in shown:
        print(f"{bold(f'{name:<{room}}')}{_GAP}{value}")


def print_json(value: object) -> None:
    """Print JSON, a list with one item per line; ASCII only, which every encoding can represent.

    Dataclasses become objects, enums their values, datetimes ISO 8601 in UTC, and paths texts. Only a single value is
    indented: indenting makes `json` use its Python encoder, 30 ms slower for 2,000 volumes.
    """
    if isinstance(value, list) and value:
        print("[" + ",\n ".join(json.dumps(item, default=_plain) for item in value) + "]")
    else:
        print(json.dumps(value, indent=2, default=_plain))


def complain(message: str) -> None:
    """Print on stderr what failed."""
    print(f"jupyter volumes: {message}", file=sys.stderr)


def ago(moment: datetime | None, now: datetime) -> str:
    """Return the time since a moment in the largest unit that fits (`3h ago`); empty for None."""
    if moment is None:
        return ""
    seconds = max(0, int((now - moment).total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit} ago"
    return f"{seconds}s ago"


def until(moment: datetime | None, now: datetime) -> str:
    """Return the time until a moment (`in 3h`); `due` if it has passed, empty for None.

    The time is rounded, while an age is rounded down: a moment after a ten-minute wait begins, ten minutes are left.
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
    """Return a number of bytes in decimal units, as on the label of a disk and in `ls --si`; empty for None."""
    if count is None:
        return ""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 10 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def width(text: str) -> int:
    """Return how many cells a text takes on a terminal: two per wide character, none per combining one."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def bold(text: str) -> str:
    """Return the text in bold if stdout is a terminal and NO_COLOR is not set."""
    is_bold = is_terminal(sys.stdout) and not os.environ.get("NO_COLOR")
    return f"\x1b[1m{text}\x1b[0m" if is_bold else text


def is_terminal(stream: TextIO) -> bool:
    """Whether the stream is a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _plain(value: object) -> object:
    """Return a value in a type of JSON, for `json.dumps`."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def _fitted(text: str, column: Column[Any], cells: int) -> str:
    """Return the text cut or padded to that many cells."""
    if width(text) > cells:
        while width(text) > cells - 1:
            text = text[1:]
        text = f"…{text}"
    padding = " " * (cells - width(text))
    return padding + text if column.align == "right" else text + padding
