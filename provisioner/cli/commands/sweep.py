"""`jupyter volumes sweep`: carries out the maintenance that is due, once or at intervals."""

from __future__ import annotations

import argparse
import random
from datetime import timedelta
from threading import Event

from provisioner.cli.arguments import add_switch, duration
from provisioner.cli.interruption import interruptible
from provisioner.cli.output.terminal import complain, print_json
from provisioner.cli.selection import open_pool
from provisioner.maintenance.sweep import sweep
from provisioner.pool.pool import Pool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sweep`."""
    add_switch(parser, "--dry-run", "only show what would be done to which volume")
    parser.add_argument(
        "--every",
        metavar="DURATION",
        type=_interval,
        help='repeat for ever, with this time (seconds, or "10m") between two sweeps',
    )
    add_switch(parser, "--json", "print what was done as JSON")


def run(args: argparse.Namespace) -> int:
    """Sweep; 1 if something that was due failed."""
    with interruptible() as cancel:
        if args.every is None:
            return _once(open_pool(args), args, cancel, deep=True)
        while not cancel.is_set():
            # Opened each time, so that a changed configuration applies from the next sweep on.
            _once(open_pool(args), args, cancel, deep=None)
            # Jittered, so that servers that started together do not sweep together.
            cancel.wait(args.every.total_seconds() * random.uniform(0.9, 1.1))
    return 0


def _once(pool: Pool, args: argparse.Namespace, cancel: Event, deep: bool | None) -> int:
    report = sweep(pool, cancel=cancel, dry_run=args.dry_run, deep=deep)
    if args.json:
        print_json(report)
    elif report.skipped:
        print("Another process is sweeping this root; nothing was done.")
    else:
        for line in report.repaired:
            print(f"repaired  {line}")
        for step in report.steps:
            print(f"{step.action.value:<9} {step.session} ({step.reason})", flush=True)
            if step.error is not None:
                complain(step.error)
        if not (report.steps or report.repaired or args.every):
            print("Nothing is due.")
    return 1 if any(step.error for step in report.steps) else 0


def _interval(text: str) -> timedelta:
    interval = duration(text)
    if interval is None:
        raise argparse.ArgumentTypeError(f'{text!r} is not an interval; give one such as "10m"')
    return interval
