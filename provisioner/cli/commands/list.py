"""`jupyter volumes list`: lists all volumes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from provisioner.cli.output.terminal import Column, ago, print_json, print_table, size, until
from provisioner.cli.selection import open_pool
from provisioner.core.errors import VolumeError
from provisioner.core.record import Record, State
from provisioner.pool.pool import Pool
from provisioner.system.lease import Holder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `list`."""
    parser.add_argument(
        "--json", action="store_true", help="print everything that is known, as JSON"
    )
    parser.add_argument(
        "--environment",
        action="store_true",
        help="also show which environments are out of date, and which of their inputs changed",
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
            shown.append(Column("ENVIRONMENT", lambda record: environment_of(pool, record)))
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
        Column("BACKED UP", lambda record: backed_up(pool, record, now)),
        Column("FILES DELETED", lambda record: pruned(pool, record, now)),
        Column("HOLDER", lambda record: held_by(pool, record)),
        Column("NOTE", lambda record: record.note or ("spare" if record.spare else "")),
    )


def described(pool: Pool, record: Record) -> dict[str, Any]:
    """Return everything that is known of a volume, for `print_json`. Sizes are bytes."""
    due = pool.due(record)
    return {
        "session": record.session,
        "id": record.id,
        "state": record.state,
        "kernelspec": record.kernelspec,
        "path": pool.path(record) if record.has_files else None,
        "holder": holder_of(pool, record),
        "bytes": record.bytes,
        "generation": record.generation,
        "created": record.created,
        "acquired": record.acquired,
        "stopped": record.stopped,
        "pinned": record.pinned,
        "spare": record.spare,
        "backed_up": record.is_backed_up,
        "backup_due": due.backup,
        "prune_due": due.prune,
        "note": record.note,
    }


def environment_of(pool: Pool, record: Record) -> str:
    """Return which steps of a volume's environment are out of date, and which of their inputs changed."""
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


def backed_up(pool: Pool, record: Record, now: datetime) -> str:
    """Return whether the volume's present files are backed up, else when they will be."""
    if record.is_backed_up:
        return "yes"
    return until(pool.due(record).backup, now) or ("older" if record.backed_up >= 0 else "")


def pruned(pool: Pool, record: Record, now: datetime) -> str:
    """Return when the volume's files will be deleted from disk, as far as it is known."""
    return "never (pinned)" if record.pinned else until(pool.due(record).prune, now)


def since(record: Record) -> datetime | None:
    """Return when the present state of a volume began."""
    return record.acquired if record.state is State.ACTIVE else record.stopped or record.created


def holder_of(pool: Pool, record: Record) -> Holder | None:
    """Return the holder of an active volume; for others no file is opened."""
    return pool.holder(record) if record.state is State.ACTIVE else None


def held_by(pool: Pool, record: Record) -> str:
    """Return the holder of a volume in a few words; empty if there is none."""
    if record.state is not State.ACTIVE:
        return ""
    holder = pool.holder(record)
    if holder is None:
        return "unknown"
    processes = ", ".join(map(str, holder.processes or (holder.pid,)))
    return f"{holder.purpose.value} (process {processes} on {holder.host})"
