"""`jupyter volumes verify`: read backups whole and compare them with what was written."""

from __future__ import annotations

import argparse

from provisioner.cli.output.terminal import complain, print_json
from provisioner.cli.output.transfer import interruptible, transfer
from provisioner.cli.selection import find_volume, open_pool
from provisioner.core.errors import Cancelled, VolumeError
from provisioner.core.record import BackupRecord


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `verify`."""
    parser.add_argument(
        "sessions", metavar="SESSION", nargs="*", help="only the backups of these sessions"
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Verify; exit 1 if a backup is damaged."""
    pool = open_pool(args)
    chosen: list[BackupRecord] = []
    for session in args.sessions:
        chosen += pool.backups.list(find_volume(pool, session).id)
    backups = chosen if args.sessions else pool.backups.list()
    damaged: dict[str, str] = {}
    with interruptible() as cancel:
        for backup in backups:
            try:
                with transfer(f"verifying {backup.name}", args.json) as progress:
                    pool.backups.verify(backup, cancel=cancel, progress=progress)
            except VolumeError as error:
                if isinstance(error, Cancelled):
                    raise KeyboardInterrupt from error
                damaged[backup.name] = str(error)
                complain(str(error))
    if args.json:
        print_json({b.name: damaged.get(b.name, "whole") for b in backups})
    else:
        print(f"{len(backups) - len(damaged)} of {len(backups)} backups are whole.")
    return 1 if damaged else 0
