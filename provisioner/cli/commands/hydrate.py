"""`jupyter volumes hydrate SESSION | --kernel NAME`: bring an environment up to date by hand, with live output."""

from __future__ import annotations

import argparse
import os
from threading import Event

from provisioner.cli.output.terminal import complain
from provisioner.cli.output.transfer import interruptible
from provisioner.cli.selection import find_volume, open_pool
from provisioner.core.errors import Cancelled, VolumeError
from provisioner.core.record import Record
from provisioner.hydration.environment import environment_of
from provisioner.hydration.kernelspec import volume_kernelspec
from provisioner.hydration.runner import Hydrated
from provisioner.pool.pool import Pool
from provisioner.system.lease import Purpose


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `hydrate`."""
    parser.add_argument("session", metavar="SESSION", nargs="?", help="whose volume is hydrated")
    parser.add_argument(
        "--kernel", metavar="NAME", help="all volumes with files of this kernelspec"
    )
    parser.add_argument(
        "--force", action="store_true", help="also what is up to date, asking remote sources anew"
    )


def run(args: argparse.Namespace) -> int:
    """Hydrate under the lease, telling each line as it comes; exit 1 if one was not renewed, after trying all."""
    if (args.session is None) == (args.kernel is None):
        raise VolumeError("Name a session, or a kernelspec with --kernel; one of the two.")
    pool = open_pool(args)
    by_kernel = args.kernel is not None
    records = _volumes_of(pool, args.kernel) if by_kernel else [_volume(pool, args.session)]
    if not records:
        print(f"No volume of {args.kernel} has files on disk.")
    failed = 0
    with interruptible() as cancel:
        for record in records:
            try:
                hydrated = _hydrate(pool, record, cancel, force=args.force)
            except VolumeError as error:
                if isinstance(error, Cancelled) and cancel.is_set():
                    raise KeyboardInterrupt from error
                complain(str(error))
                failed += 1
            else:
                failed += not _report(record, hydrated)
    return 1 if failed else 0


def _volume(pool: Pool, session: str) -> Record:
    record = find_volume(pool, session)
    if record.spare is not None:
        raise VolumeError(
            f"{record.session!r} is a spare, which no session has yet; "
            f"`jupyter volumes warm {record.kernelspec}` renews those that are out of date."
        )
    return record


def _volumes_of(pool: Pool, kernelspec: str) -> list[Record]:
    """Return the volumes of a kernelspec, which may since have been removed; refuse one that never can have any.

    Spares are not among them: using one would make it somebody's. `warm` renews them.
    """
    name = kernelspec.lower()
    of_it = [r for r in pool.volumes() if r.kernelspec.lower() == name and r.spare is None]
    if not of_it:
        volume_kernelspec(kernelspec, "--kernel ")
    return [record for record in of_it if record.has_files]


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
            progress=_tell,
            cancel=cancel,
            clock=pool.clock,
            force=force,
        )
    finally:
        pool.release(acquired)


def _tell(step: str, message: str, fraction: float | None = None) -> None:
    done = "" if fraction is None else f" ({fraction:.0%})"
    print(f"{step}: {message}{done}", flush=True)


def _report(record: Record, hydrated: Hydrated) -> bool:
    """Tell what became of each step; return whether all are up to date (see the kernelspec's option `stale`)."""
    for step in hydrated.report:
        if step.warning:
            complain(f"{record.session}: {step.name}: {step.warning}")
            continue
        outcome = "was up to date" if step.hit else "hydrated"
        why = f" ({', '.join(step.changed)} changed)" if step.changed else ""
        print(f"{record.session}: {step.name} {outcome}{why}")
    return not any(step.warning for step in hydrated.report)
