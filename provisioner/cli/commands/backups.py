"""`jupyter volumes backups [SESSION]`: lists the backups, or describes one of them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from provisioner.backup.format.manifest import Manifest, Noted
from provisioner.cli.arguments import add_switch
from provisioner.cli.output.terminal import Column, ago, print_fields, print_json, print_table, size
from provisioner.cli.selection import find_volume, open_pool
from provisioner.core.record import BackupRecord
from provisioner.pool.pool import Pool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `backups`."""
    parser.add_argument(
        "session", metavar="SESSION", nargs="?", help="only the backups of this session"
    )
    parser.add_argument(
        "--files", metavar="BACKUP", help="describe this backup, and name the files that it omits"
    )
    add_switch(parser, "--json", "print everything that is known, as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the backups, newest first; or one in detail."""
    pool = open_pool(args)
    if args.files is not None:
        _print_files(pool.backups.stored.summary(pool.backups.named(args.files)))
        return 0
    chosen = None if args.session is None else find_volume(pool, args.session).id
    backups = pool.backups.list(chosen)
    if args.json:
        print_json(backups)
    elif backups:
        print_table(_columns(pool), backups)
    else:
        print("No backups yet.")
    return 0


def _columns(pool: Pool) -> tuple[Column[BackupRecord], ...]:
    now = pool.clock()
    sessions = {record.id: record.session for record in pool.volumes()}
    return (
        Column("SESSION", lambda b: sessions.get(b.id, b.id), shrinks=True),
        Column("MADE", lambda b: ago(b.created, now)),
        Column("FILES", lambda b: f"{b.files:,}", align="right"),
        Column("CONTENT", lambda b: size(b.bytes), align="right"),
        Column("SIZE", lambda b: size(b.size), align="right"),
        Column(
            "STATE",
            lambda b: "partial" if b.partial else "verified" if b.verified else "not verified",
        ),
        Column("BACKUP", lambda b: b.name),
    )


def _print_files(manifest: Manifest) -> None:
    about = manifest.about
    print_fields(
        [
            ("session", about.session),
            ("kernelspec", about.kernelspec),
            ("generation", str(about.generation)),
            ("made", f"{about.created:%Y-%m-%d %H:%M:%S} UTC by {manifest.creator}"),
            ("files", f"{manifest.files:,}"),
            ("content", size(manifest.bytes)),
        ]
    )
    omitted: Mapping[str, Noted] = {
        "could not be read": manifest.unreadable,
        "vanished while it was made": manifest.vanished,
        "changed while it was made": manifest.changed,
        "excluded by `backup_exclude`": manifest.excluded,
        "skipped (sockets and the like)": manifest.skipped,
    }
    for heading, noted in omitted.items():
        if noted.count:
            print(f"{heading}: {noted.count:,}")
            for name in noted.paths:
                print(f"    {name}")
