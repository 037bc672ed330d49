"""`jupyter volumes backup SESSION… | --all`: makes backups now."""

from __future__ import annotations

import argparse
from threading import Event

from provisioner.cli.arguments import add_switch
from provisioner.cli.interruption import failures_of
from provisioner.cli.output.progress import byte_bar
from provisioner.cli.output.terminal import complain, print_json, size
from provisioner.cli.selection import find_volume, open_pool
from provisioner.core.errors import VolumeError
from provisioner.core.record import BackupRecord, Record, State


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `backup`."""
    parser.add_argument(
        "sessions", metavar="SESSION", nargs="*", help="the sessions whose volumes are backed up"
    )
    add_switch(
        parser, "--all", "back up all stopped volumes that have no backup of their present files"
    )
    add_switch(parser, "--json", "print the new backups as JSON")


def run(args: argparse.Namespace) -> int:
    """Back up the volumes; 1 if one of them failed, after trying all."""
    if args.all == bool(args.sessions):
        raise VolumeError("Name the sessions to back up, or give --all for all that need it.")
    pool = open_pool(args)
    if args.all:
        stopped = [record for record in pool.volumes() if record.state is State.STOPPED]
        records = [record for record in stopped if record.generation and not record.is_backed_up]
    else:
        records = [find_volume(pool, session) for session in args.sessions]
    made: list[BackupRecord] = []

    def back_up(record: Record, cancel: Event) -> None:
        with byte_bar(f"backing up {record.session}", args.json) as progress:
            backup = pool.back_up(record.id, cancel=cancel, progress=progress)
        made.append(backup)
        name = backup.name
        if backup.partial:
            complain(
                f"The backup {name} of {record.session!r} is partial: "
                f"`jupyter volumes backups --files {name}` names the files that could not be read."
            )
        if not args.json:
            print(f"{record.session}: {name} ({size(backup.bytes)} in {size(backup.size)})")

    failed = failures_of(back_up, records)
    if args.json:
        print_json(made)
    elif not records:
        print("All stopped volumes are backed up.")
    return 1 if failed or any(backup.partial for backup in made) else 0
