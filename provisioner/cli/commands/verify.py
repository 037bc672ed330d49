"""`jupyter volumes verify`: reads backups completely and compares them with their checksums."""

from __future__ import annotations

import argparse
from threading import Event

from provisioner.cli.arguments import add_switch
from provisioner.cli.interruption import failures_of
from provisioner.cli.output.progress import byte_bar
from provisioner.cli.output.terminal import print_json
from provisioner.cli.selection import find_volume, open_pool
from provisioner.core.record import BackupRecord


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `verify`."""
    parser.add_argument(
        "sessions", metavar="SESSION", nargs="*", help="verify only the backups of these sessions"
    )
    add_switch(parser, "--json", "print the results as JSON")


def run(args: argparse.Namespace) -> int:
    """Verify; 1 if a backup is damaged, after reading all."""
    pool = open_pool(args)
    volumes: list[str | None] = [find_volume(pool, name).id for name in args.sessions]
    backups = [backup for volume in volumes or [None] for backup in pool.backups.list(volume)]

    def verify(backup: BackupRecord, cancel: Event) -> None:
        with byte_bar(f"verifying {backup.name}", args.json) as progress:
            pool.backups.stored.verify(backup, cancel=cancel, progress=progress)

    damaged = {backup.name: str(error) for backup, error in failures_of(verify, backups)}
    if args.json:
        print_json({b.name: damaged.get(b.name, "whole") for b in backups})
    else:
        print(f"{len(backups) - len(damaged)} of {len(backups)} backups are whole.")
    return 1 if damaged else 0
