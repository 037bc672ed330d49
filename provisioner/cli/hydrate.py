"""`jupyter volumes hydrate SESSION | --kernel NAME`: bring an environment up to date by hand, with live output."""

from __future__ import annotations

import argparse
import os

from .. import environment
from ..errors import Cancelled, VolumeError
from ..lease import Purpose
from .selection import find_volume, open_pool
from .transfer import interruptible


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
    """Hydrate under the lease, telling each line as it comes."""
    if (args.session is None) == (args.kernel is None):
        raise VolumeError("Name a session, or a kernelspec with --kernel; one of the two.")
    pool = open_pool(args)
    if args.session is not None:
        records = [find_volume(pool, args.session)]
    else:
        records = [r for r in pool.volumes() if r.kernelspec == args.kernel and r.has_files]

    def tell(step: str, message: str, fraction: float | None = None) -> None:
        done = "" if fraction is None else f" ({fraction:.0%})"
        print(f"{step}: {message}{done}", flush=True)

    with interruptible() as cancel:
        for record in records:
            acquired = pool.acquire(
                record.session,
                record.kernelspec,
                kernel="jupyter volumes hydrate",
                purpose=Purpose.HYDRATE,
                cancel=cancel,
            )
            try:
                options, launch = environment.declared(record.kernelspec, os.environ)
                hydrated = environment.prepare(
                    launch,
                    pool,
                    options,
                    acquired,
                    notebook=record.session,
                    progress=tell,
                    cancel=cancel,
                    force=args.force,
                )
            except Cancelled as error:
                raise KeyboardInterrupt from error
            finally:
                pool.release(acquired)
            for step in hydrated.report:
                outcome = "was up to date" if step.hit else "hydrated"
                why = f" ({', '.join(step.changed)} changed)" if step.changed else ""
                print(f"{record.session}: {step.name} {outcome}{why}")
    return 0
