"""`jupyter volumes show`: one volume in full."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import datetime

from ..pool import Pool
from ..record import Record
from .listing import described, holder_of, since
from .selection import add_session_argument, find_volume, open_pool
from .terminal import ago, print_fields, print_json, size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `show`."""
    add_session_argument(parser)
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def run(args: argparse.Namespace) -> int:
    """Print what is known of a volume."""
    pool = open_pool(args)
    record = find_volume(pool, args.session)
    if args.json:
        print_json(described(pool, record))
    else:
        print_fields(fields(pool, record, pool.clock()))
    return 0


def fields(pool: Pool, record: Record, now: datetime) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of all that is shown of a volume."""
    holder = holder_of(pool, record)
    yield "session", record.session
    yield "id", record.id
    yield "state", f"{record.state.value} since {_when(since(record), now)}"
    yield "held by", "" if holder is None else str(holder)
    yield "path", str(pool.path(record)) if record.has_files else ""
    yield "kernelspec", record.kernelspec
    yield "size", size(record.bytes)
    yield "created", _when(record.created, now)
    yield "acquired", _when(record.acquired, now)
    yield "generation", str(record.generation)
    yield "pinned", "yes: never pruned or evicted" if record.pinned else ""
    yield "note", record.note


def _when(moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return ""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S} ({ago(moment, now)})"
