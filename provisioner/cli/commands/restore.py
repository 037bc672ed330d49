"""`jupyter volumes restore SESSION`: bring a volume back, or put a copy of it elsewhere."""

from __future__ import annotations

import argparse
from pathlib import Path

from provisioner.cli.output.terminal import print_json
from provisioner.cli.output.transfer import interruptible, transfer
from provisioner.cli.selection import add_session_argument, find_volume, open_pool
from provisioner.core.errors import Cancelled


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `restore`."""
    add_session_argument(parser)
    parser.add_argument(
        "--backup", metavar="BACKUP", help="this backup in place of the newest (see `backups`)"
    )
    parser.add_argument(
        "--to", metavar="DIR", type=Path, help="into this directory, which must not exist yet"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Restore; what lies in the volume is backed up before it is replaced."""
    pool = open_pool(args)
    record = find_volume(pool, args.session)
    chosen = pool.backups.choose(record, args.backup)
    label = f"restoring {record.session}"
    with interruptible() as cancel, transfer(label, args.json) as progress:
        try:
            if args.to is None:
                pool.restore(record.id, backup=chosen.name, cancel=cancel, progress=progress)
            else:
                pool.backups.restore_to(
                    chosen, args.to.absolute(), cancel=cancel, progress=progress
                )
        except Cancelled as error:
            if cancel.is_set():
                raise KeyboardInterrupt from error
            raise
    path = pool.path(record) if args.to is None else args.to.absolute()
    if args.json:
        print_json({"session": record.session, "backup": chosen.name, "path": str(path)})
    else:
        print(f"{record.session}: brought back from {chosen.name} to {path}")
    return 0
