"""`jupyter volumes backup SESSION… | --all`: makes backups now."""

from __future__ import annotations

import argparse
from threading import Event

from provisioner.cli.interruption import failures_of
from provisioner.cli.output.progress import byte_bar
from provisioner.cli.output.terminal import complain, print_json, size
from provisioner.cli.selection import find_volume, open_pool
from provisioner.core.errors import VolumeError
from provisioner.core.record import BackupRecord, Record, State
from provisioner.pool.pool import Pool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `backup`."""
    parser.add_argument(
        "sessions", metavar="SESSION", nargs="*", help="the sessions whose volumes are backed up"
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="back up all stopped volumes that have no backup of their present files",
    )
    parser.add_argument("--json", action="store_true", help="print the new backups as JSON")


def run(args: argparse.Namespace) -> int:
    """Back up the volumes; 1 if one of them failed, after trying all."""
    if args.all == bool(args.sessions):
        raise VolumeError("Name the sessions to back up, or give --all for all that need it.")
    pool = open_pool(args)
    records = _needing(pool) if args.all else [find_volume(pool, s) for s in args.sessions]
    made: list[BackupRecord] = []

    def back_up(record: Record, cancel: Event) -> None:
        with byte_bar(f"backing up {record.session}", args.json) as progress:
            made.append(pool.back_up(record.id, cancel=cancel, progress=progress))
        _report(record, made[-1], quiet=args.json)

    failed = failures_of(back_up, records)
    if args.json:
        print_json(made)
    elif not records:
        print("All stopped volumes are backed up.")
    return 1 if failed or any(backup.partial for backup in made) else 0


def _needing(pool: Pool) -> list[Record]:
    return [
        r
        for r in pool.volumes()
        if r.state is State.STOPPED and r.generation and not r.is_backed_up
    ]


def _report(record: Record, made: BackupRecord, *, quiet: bool) -> None:
    if made.partial:
        complain(
            f"The backup {made.name} of {record.session!r} is partial: "
            f"`jupyter volumes backups --files {made.name}` names the files that could not be read."
        )
    if not quiet:
        print(f"{record.session}: {made.name} ({size(made.bytes)} in {size(made.size)})")
