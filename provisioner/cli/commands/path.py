"""`jupyter volumes path`: prints the directory of a volume, for scripts."""

from __future__ import annotations

import argparse

from provisioner.cli.arguments import add_session_argument
from provisioner.cli.selection import find_volume, open_pool
from provisioner.core.errors import VolumeNotFound


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `path`."""
    add_session_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print the directory, and nothing else."""
    pool = open_pool(args)
    record = find_volume(pool, args.session)
    path = pool.path(record)
    if not record.has_files:
        raise VolumeNotFound(
            f"The volume of session {record.session!r} is pruned and has no files on disk; "
            "they come back at the next start of its kernel."
        )
    if not path.is_dir():
        raise VolumeNotFound(
            f"The directory of session {record.session!r}, {path}, does not exist; "
            "run `jupyter volumes doctor`."
        )
    print(path)
    return 0
