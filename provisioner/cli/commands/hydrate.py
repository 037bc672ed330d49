"""`jupyter volumes hydrate SESSION | --kernel NAME`: brings environments up to date by hand, with live output."""

from __future__ import annotations

import argparse
import os
import sys
from threading import Event

from provisioner.cli.interruption import failures_of
from provisioner.cli.output.progress import step_lines
from provisioner.cli.output.terminal import complain
from provisioner.cli.selection import find_volume, open_pool
from provisioner.core.errors import VolumeError
from provisioner.core.record import Record
from provisioner.hydration.environment import environment_of
from provisioner.hydration.kernelspec import volume_kernelspec
from provisioner.hydration.runner import Hydrated
from provisioner.pool.pool import Pool
from provisioner.system.lease import Purpose


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `hydrate`."""
    parser.add_argument(
        "session", metavar="SESSION", nargs="?", help="the session whose volume is hydrated"
    )
    parser.add_argument(
        "--kernel", metavar="NAME", help="hydrate all volumes with files of this kernelspec"
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="repeat steps that are up to date, and ask remote sources for changes",
    )


def run(args: argparse.Namespace) -> int:
    """Hydrate under the lease of each volume; 1 if one was not brought up to date, after trying all."""
    if (args.session is None) == (args.kernel is None):
        raise VolumeError("Name a session, or a kernelspec with --kernel; one of the two.")
    pool = open_pool(args)
    by_kernel = args.kernel is not None
    records = _volumes_of(pool, args.kernel) if by_kernel else [_volume(pool, args.session)]
    if not records:
        print(f"No volume of {args.kernel} has files on disk.")
    stale: list[Record] = []

    def hydrate(record: Record, cancel: Event) -> None:
        hydrated = _hydrate(pool, record, cancel, force=args.force)
        _report(record, hydrated)
        if any(step.warning for step in hydrated.report):
            stale.append(record)

    return 1 if failures_of(hydrate, records) or stale else 0


def _volume(pool: Pool, session: str) -> Record:
    record = find_volume(pool, session)
    if record.spare is not None:
        raise VolumeError(
            f"{record.session!r} is a spare, which belongs to no session yet; "
            f"`jupyter volumes warm {record.kernelspec}` renews those that are out of date."
        )
    return record


def _volumes_of(pool: Pool, kernelspec: str) -> list[Record]:
    """Return the volumes of a kernelspec, which may have been removed since.

    Spares are not among them: hydrating one here would give it to a session. `warm` renews them.

    Raises
    ------
    ConfigError
        If there is no such volume, and never can be.
    """
    name = kernelspec.lower()
    found = [r for r in pool.volumes() if r.kernelspec.lower() == name and r.spare is None]
    if not found:
        volume_kernelspec(kernelspec, "--kernel ")
    return [record for record in found if record.has_files]


def _hydrate(pool: Pool, record: Record, cancel: Event, *, force: bool) -> Hydrated:
    acquired = pool.acquire(
        record.session,
        record.kernelspec,
        kernel="by hand",
        purpose=Purpose.HYDRATE,
        cancel=cancel,
    )
    try:
        environment, launch = environment_of(
            pool.settings, acquired.record, acquired.path, os.environ
        )
        return environment.hydrate(
            launch,
            lease=acquired.lease_fd,
            progress=step_lines(sys.stdout),
            cancel=cancel,
            clock=pool.clock,
            force=force,
        )
    finally:
        pool.release(acquired)


def _report(record: Record, hydrated: Hydrated) -> None:
    """Print the outcome of each step; a step with a warning was not renewed (see the option `stale`)."""
    for step in hydrated.report:
        if step.warning:
            complain(f"{record.session}: {step.name}: {step.warning}")
            continue
        outcome = "was up to date" if step.hit else "hydrated"
        why = f" ({', '.join(step.changed)} changed)" if step.changed else ""
        print(f"{record.session}: {step.name} {outcome}{why}")
