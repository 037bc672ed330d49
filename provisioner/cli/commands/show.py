"""`jupyter volumes show`: describes one volume."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from provisioner.cli.arguments import add_session_argument, add_switch
from provisioner.cli.commands.list import described, holder_of, since
from provisioner.cli.output.terminal import ago, print_fields, print_json, size
from provisioner.cli.selection import find_volume, open_pool
from provisioner.core.errors import ConfigError
from provisioner.core.record import Record
from provisioner.hydration.environment import state_of
from provisioner.pool.pool import Pool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `show`."""
    add_session_argument(parser)
    add_switch(parser, "--json", "print everything that is known, as JSON")


def run(args: argparse.Namespace) -> int:
    """Print everything that is known of a volume."""
    pool = open_pool(args)
    record = find_volume(pool, args.session)
    if args.json:
        print_json({**described(pool, record), **_described_environment(pool, record)})
    else:
        print_fields(_fields(pool, record, pool.clock()))
    return 0


def _fields(pool: Pool, record: Record, now: datetime) -> Iterator[tuple[str, str]]:
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
    try:
        states = state_of(pool.settings, record, pool.path(record), os.environ)
    except ConfigError as error:
        yield "environment", str(error)
        return
    for state in states:
        why = f": {', '.join(state.changed)} changed" if state.changed else ""
        when = f", hydrated {_when(state.at, now)}" if state.at else ""
        yield f"environment ({state.name})", f"{state.status.value}{why}{when}"


def _described_environment(pool: Pool, record: Record) -> dict[str, Any]:
    """Return the steps of hydration for `print_json`, or the fault in the kernelspec that hides them."""
    try:
        states = state_of(pool.settings, record, pool.path(record), os.environ)
    except ConfigError as error:
        return {"environment": None, "environment_fault": str(error)}
    steps = [
        {
            "step": state.name,
            "condition": state.status.name.lower(),
            "hydrated": state.at,
            "inputs": state.inputs,
            "changed": state.changed,
        }
        for state in states
    ]
    return {"environment": steps}


def _when(moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return ""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S} ({ago(moment, now)})"
