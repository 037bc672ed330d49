"""`jupyter volumes hydrate SESSION | --kernel NAME`: brings environments up to date by hand, with live output."""

from __future__ import annotations

import argparse
import os
import sys
from threading import Event
from typing import TextIO

from provisioner.cli.arguments import add_switch
from provisioner.cli.interruption import failures_of
from provisioner.cli.output.progress import step_lines
from provisioner.cli.output.terminal import complain
from provisioner.cli.selection import find_volume, open_pool
from provisioner.core.errors import VolumeError
from provisioner.core.record import Record
from provisioner.hydration.environment import environment_of
from provisioner.hydration.kernelspec import volume_kernelspec
from provisioner.hydration.runner import Hydrated
from provisioner.pool.kernels import Acquired
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
    add_switch(
        parser, "--force", "repeat steps that are up to date, and ask remote sources for changes"
    )


def run(args: argparse.Namespace) -> int:
    """Hydrate under the lease of each volume; 1 if one was not brought up to date, after trying all."""
    if (args.session is None) == (args.kernel is None):
        raise VolumeError("Name a session, or a kernelspec with --kernel; one of the two.")
    pool = open_pool(args)
    records = _chosen(pool, args)
    if not records:
        print(f"No volume of {args.kernel} has files on disk.")
    stale: list[Record] = []

    def hydrate_one(record: Record, cancel: Event) -> None:
        acquired = pool.acquire(
            record.session,
            record.kernelspec,
            kernel="by hand",
            purpose=Purpose.HYDRATE,
            cancel=cancel,
        )
        try:
            hydrated = hydrate(pool, acquired, cancel, sys.stdout, force=args.force)
        finally:
            pool.release(acquired)
        _report(record, hydrated)
        if any(step.warning for step in hydrated.report):
            stale.append(record)

    return 1 if failures_of(hydrate_one, records) or stale else 0


def hydrate(
    pool: Pool, acquired: Acquired, cancel: Event, stream: TextIO, *, force: bool = False
) -> Hydrated:
    """Hydrate an acquired volume, with live output on the stream."""
    environment, launch = environment_of(pool.settings, acquired.record, acquired.path, os.environ)
    return environment.hydrate(
        launch,
        lease=acquired.lease_fd,
        progress=step_lines(stream),
        cancel=cancel,
        clock=pool.clock,
        force=force,
    )


def _chosen(pool: Pool, args: argparse.Namespace) -> list[Record]:
    """Return the volumes to hydrate: no spares, because hydrating one here would give it to a session."""
    if args.kernel is None:
        record = find_volume(pool, args.session)
        if record.spare is not None:
            raise VolumeError(
                f"{record.session!r} is a spare, which belongs to no session yet; "
                f"`jupyter volumes warm {record.kernelspec}` renews those that are out of date."
            )
        return [record]
    name = args.kernel.lower()
    found = [r for r in pool.volumes() if r.kernelspec.lower() == name and r.spare is None]
    if not found:
        volume_kernelspec(args.kernel, "--kernel ")  # refuses a name that can have no volumes
    return [record for record in found if record.has_files]


def _report(record: Record, hydrated: Hydrated) -> None:
    """Print the outcome of each step; a step with a warning was not renewed (see the option `stale`)."""
    for step in hydrated.report:
        if step.warning:
            complain(f"{record.session}: {step.name}: {step.warning}")
            continue
        outcome = "was up to date" if step.hit else "hydrated"
        why = f" ({', '.join(step.changed)} changed)" if step.changed else ""
        print(f"{record.session}: {step.name} {outcome}{why}")
