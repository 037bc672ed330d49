"""`jupyter volumes restore SESSION`: brings a volume back from a backup, or extracts a copy elsewhere."""

from __future__ import annotations

import argparse
from pathlib import Path

from provisioner.cli.arguments import add_session_argument, add_switch
from provisioner.cli.interruption import interruptible
from provisioner.cli.output.progress import byte_bar
from provisioner.cli.output.terminal import print_json
from provisioner.cli.selection import find_volume, open_pool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `restore`."""
    add_session_argument(parser)
    parser.add_argument(
        "--backup",
        metavar="BACKUP",
        help="use this backup, as named by `jupyter volumes backups` (default: the newest)",
    )
    parser.add_argument(
        "--to",
        metavar="DIR",
        type=Path,
        help="extract a copy into this directory, which must not exist yet",
    )
    add_switch(parser, "--json", "print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Restore; present files of the volume are backed up before they are replaced."""
    pool = open_pool(args)
    record = find_volume(pool, args.session)
    chosen = pool.backups.choose(record, args.backup)
    label = f"restoring {record.session}"
    with interruptible() as cancel, byte_bar(label, args.json) as progress:
        if args.to is None:
            pool.restore(record.id, backup=chosen.name, cancel=cancel, progress=progress)
            path = pool.path(record)
        else:
            path = args.to.absolute()
            pool.backups.stored.restore_to(chosen, path, cancel=cancel, progress=progress)
    if args.json:
        print_json({"session": record.session, "backup": chosen.name, "path": path})
    else:
        print(f"{record.session}: brought back from {chosen.name} to {path}")
    return 0
