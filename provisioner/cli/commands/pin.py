"""`jupyter volumes pin SESSION` and `unpin SESSION`: a pinned volume is never pruned or evicted."""

from __future__ import annotations

import argparse

from provisioner.cli.arguments import add_session_argument
from provisioner.cli.selection import find_volume, open_pool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `pin` and `unpin`."""
    add_session_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Pin or unpin, depending on the name of the command."""
    pool = open_pool(args)
    pinned = args.command == "pin"
    record = pool.catalog.pin(find_volume(pool, args.session).id, pinned)
    print(f"{record.session}: {'pinned' if pinned else 'not pinned'}")
    return 0
