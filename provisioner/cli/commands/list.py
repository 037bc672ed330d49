"""`jupyter volumes list`: lists all volumes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from provisioner.cli.arguments import add_switch
from provisioner.cli.output.terminal import Column, ago, print_json, print_table, size, until
from provisioner.cli.selection import open_pool
from provisioner.core.errors import VolumeError
from provisioner.core.record import Record, State
from provisioner.pool.pool import Pool
from provisioner.system.lease import Holder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `list`."""
    add_switch(parser, "--json", "print everything that is known, as JSON")
    add_switch(
        parser,
        "--environment",
        "also show which environments are out of date, and which of their inputs changed",
    )


def run(args: argparse.Namespace) -> int:
    """Print the volumes of the pool."""
    pool = open_pool(args)
    records = pool.volumes()
    if args.json:
        print_json([described(pool, record) for record in records])
    elif records:
        shown = list(columns(pool, pool.clock()))
        if args.environment:
            shown.append(Column("ENVIRONMENT", lambda record: _environment(pool, record)))
        print_table(shown, records)
    else:
        print(f"No volumes yet under {pool.root.layout.root}.")
    return 0


def columns(pool: Pool, now: datetime) -> Sequence[Column[Record]]:
    """Return the columns of the list."""
    return (
        Column("SESSION", lambda record: record.session, shrinks=True),
        Column("STATE", lambda record: record.state.value),
        Column("SINCE", lambda record: ago(since(record), now)),
        Column("SIZE", lambda record: size(record.bytes), align="right"),
        Column("KERNELSPEC", lambda record: record.kernelspec),
        Column("BACKED UP", lambda record: _backed_up(pool, record, now)),
        Column(
            "FILES DELETED",
            lambda r: "never (pinned)" if r.pinned else until(pool.due(r).prune, now),
        ),
        Column("HOLDER", lambda record: _held_by(pool, record)),
        Column("NOTE", lambda record: record.note or ("spare" if record.spare else "")),
    )


def described(pool: Pool, record: Record) -> dict[str, Any]:
    """Return everything that is known of a volume, for `print_json`. Sizes are bytes."""
    due = pool.due(record)
    return {
        **asdict(record),
        "path": pool.path(record) if record.has_files else None,
        "holder": holder_of(pool, record),
        "backed_up": record.is_backed_up,
        "backup_due": due.backup,
        "prune_due": due.prune,
    }


def since(record: Record) -> datetime | None:
    """Return when the present state of a volume began."""
    return record.acquired if record.state is State.ACTIVE else record.stopped or record.created


def holder_of(pool: Pool, record: Record) -> Holder | None:
    """Return the holder of an active volume; for others no file is opened."""
    return pool.holder(record) if record.state is State.ACTIVE else None


def _environment(pool: Pool, record: Record) -> str:
    # Imported here: without --environment, `list` reads no kernelspec.
    from provisioner.hydration.environment import state_of
    from provisioner.hydration.journal import StepStatus

    try:
        states = state_of(pool.settings, record, pool.path(record), os.environ)
    except VolumeError as error:
        return str(error)
    return "; ".join(
        f"{step.name}: {', '.join(step.changed) or step.status.value}"
        + (" changed" if step.changed else "")
        for step in states
        if step.status is not StepStatus.FRESH
    )


def _backed_up(pool: Pool, record: Record, now: datetime) -> str:
    """Return whether the volume's present files are backed up, else when they will be."""
    if record.is_backed_up:
        return "yes"
    return until(pool.due(record).backup, now) or ("older" if record.backed_up >= 0 else "")


def _held_by(pool: Pool, record: Record) -> str:
    holder = holder_of(pool, record)
    if holder is None:
        return "unknown" if record.state is State.ACTIVE else ""
    processes = ", ".join(map(str, holder.processes or (holder.pid,)))
    return f"{holder.purpose.value} (process {processes} on {holder.host})"
