"""`jupyter volumes warm KERNELSPEC`: make hydrated volumes ready for sessions to come."""

from __future__ import annotations

import argparse

from ..errors import Cancelled
from ..spares import warm
from .selection import open_pool
from .transfer import interruptible


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `warm`."""
    parser.add_argument("kernelspec", metavar="KERNELSPEC", help="whose spares are made")
    parser.add_argument(
        "-n",
        "--spares",
        type=int,
        help="how many to have ready; as VolumePool.spares says, or 1, if not given; 0 retires all",
    )


def run(args: argparse.Namespace) -> int:
    """Make what is missing, replace what is out of date, retire what is too many."""
    pool = open_pool(args)
    wanted = (
        args.spares if args.spares is not None else pool.settings.spares.get(args.kernelspec, 1)
    )

    def tell(step: str, message: str, fraction: float | None = None) -> None:
        print(f"{step}: {message}", flush=True)

    with interruptible() as cancel:
        try:
            made = warm(pool, args.kernelspec, wanted, progress=tell, cancel=cancel)
        except Cancelled as error:
            raise KeyboardInterrupt from error
    print(f"{args.kernelspec}: {made} made, {len(pool.registry.spares(args.kernelspec))} ready")
    return 0
