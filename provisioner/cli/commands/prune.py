"""`jupyter volumes prune SESSION`: deletes a stopped volume's files, which a backup can bring back."""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import replace

from provisioner.cli.arguments import add_session_argument, add_switch
from provisioner.cli.output.terminal import print_json
from provisioner.cli.selection import find_volume, open_pool
from provisioner.core.errors import NotBackedUp
from provisioner.core.record import Record, State


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `prune`."""
    add_session_argument(parser)
    add_switch(
        parser,
        "--force",
        "prune without a current backup too, after you have typed the session's name",
    )
    add_switch(parser, "--backups", "with --force: delete the backups as well")
    add_switch(parser, "--yes", "with --force: do not ask for the name")
    add_switch(parser, "--json", "print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Prune: the volume is gone at once, a process in the background deletes its files."""
    pool = open_pool(args)
    record = find_volume(pool, args.session)
    if args.backups and not args.force:
        raise NotBackedUp("Backups are deleted only with --force; nothing was deleted.")
    if args.force and (args.backups or not record.is_backed_up) and not args.yes:
        _require_name(record)
    if args.backups:
        pool.delete(record.id)
        gone = replace(record, state=State.PRUNED)
    else:
        gone = pool.prune(record.id, force=args.force, look_first=True)
    # This process ends now, so another one deletes the files that were moved to the trash.
    subprocess.Popen(
        [sys.executable, "-m", "provisioner.pool.trash", str(pool.root.layout.trash)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    if args.json:
        print_json({"session": gone.session, "id": gone.id, "state": gone.state})
    elif pool.backups.list(record.id):
        print(f"{record.session}: pruned; its next kernel brings it back.")
    else:
        print(f"{record.session}: deleted.")
    return 0


def _require_name(record: Record) -> None:
    if not sys.stdin.isatty():
        raise NotBackedUp(
            f"No current backup of {record.session!r} would remain to bring its files back; "
            "to delete them all the same without a terminal, add --yes."
        )
    try:
        typed = input(
            f"No current backup of {record.session!r} will remain to bring its files back.\n"
            "Type the session's name to delete them: "
        )
    except EOFError:
        print()
        typed = ""
    if typed != record.session:
        raise NotBackedUp("That is not the session's name; nothing was deleted.")
