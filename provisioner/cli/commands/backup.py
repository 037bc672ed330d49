"""`jupyter volumes backup SESSION… | --all`: make backups now."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from threading import Event

from provisioner.cli.output.terminal import complain, print_json
from provisioner.cli.output.transfer import amount, interruptible, transfer
from provisioner.cli.selection import find_volume, open_pool
from provisioner.core.errors import Cancelled, VolumeError
from provisioner.core.record import BackupRecord, Record, State
from provisioner.pool.pool import Pool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `backup`."""
    parser.add_argument(
        "sessions", metavar="SESSION", nargs="*", help="whose volumes are backed up"
    )
    parser.add_argument(
        "--all", action="store_true", help="all stopped volumes that have changed since their last"
    )
    parser.add_argument("--json", action="store_true", help="print what was made, as JSON")


def run(args: argparse.Namespace) -> int:
    """Back up what was named; exit 1 if one of them failed, after trying all."""
    if args.all == bool(args.sessions):
        raise VolumeError("Name the sessions to back up, or give --all for all that need it.")
    pool = open_pool(args)
    records = _needing(pool) if args.all else [find_volume(pool, s) for s in args.sessions]
    made: list[BackupRecord] = []
    failed = 0
    with interruptible() as cancel:
        for record in records:
            try:
                made.append(_back_up(pool, record, cancel, args.json))
            except VolumeError as error:
                if isinstance(error, Cancelled) and cancel.is_set():
                    raise KeyboardInterrupt from error
                complain(str(error))
                failed += 1
    if args.json:
        print_json([described(backup) for backup in made])
    elif not records:
        print("All stopped volumes are backed up.")
    return 1 if failed or any(backup.partial for backup in made) else 0


def _needing(pool: Pool) -> list[Record]:
    return [
        r
        for r in pool.volumes()
        if r.state is State.STOPPED and r.generation and not r.is_backed_up
    ]


def _back_up(pool: Pool, record: Record, cancel: Event, quiet: bool) -> BackupRecord:
    with transfer(f"backing up {record.session}", quiet) as progress:
        made = pool.back_up(record.id, cancel=cancel, progress=progress)
    if made.partial:
        complain(
            f"The backup {made.name} of {record.session!r} is partial: "
            f"`jupyter volumes backups --files {made.name}` names what could not be read."
        )
    if not quiet:
        print(f"{record.session}: {made.name} ({amount(made.size, made.bytes)})")
    return made


def described(backup: BackupRecord) -> dict[str, object]:
    """Return a backup in JSON's types. Times are ISO 8601 in UTC, sizes bytes."""
    return {
        **asdict(backup),
        "created": backup.created.isoformat(),
        "verified": None if backup.verified is None else backup.verified.isoformat(),
    }
