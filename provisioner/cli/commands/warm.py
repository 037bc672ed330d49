"""`jupyter volumes warm KERNELSPEC`: makes hydrated volumes ready for new sessions."""

from __future__ import annotations

import argparse
import sys

from provisioner.cli.arguments import whole_number
from provisioner.cli.interruption import interruptible
from provisioner.cli.output.progress import step_lines
from provisioner.cli.selection import open_pool
from provisioner.core.errors import PoolFull
from provisioner.hydration.kernelspec import volume_kernelspec
from provisioner.maintenance.spares import warm


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `warm`."""
    parser.add_argument(
        "kernelspec", metavar="KERNELSPEC", help="the kernelspec whose spares are made"
    )
    parser.add_argument(
        "-n",
        "--spares",
        type=whole_number(0),
        metavar="N",
        help="how many spares shall be ready (default: as in VolumePool.spares, else 1); 0 retires all",
    )


def run(args: argparse.Namespace) -> int:
    """Make missing spares, replace those that are out of date, and retire surplus ones."""
    pool = open_pool(args)
    name: str = args.kernelspec
    # The spares of a kernelspec that was removed can be retired, but none can be made.
    if args.spares != 0 or not pool.catalog.spares(name):
        name = volume_kernelspec(name).name
    wanted = args.spares if args.spares is not None else pool.settings.spares.get(name, 1)
    with interruptible() as cancel:
        try:
            made = warm(pool, name, wanted, progress=step_lines(sys.stdout), cancel=cancel)
        except PoolFull as error:
            raise PoolFull(
                f"{error} {len(pool.catalog.spares(name))} of {wanted} spares of {name!r} are ready; for more, free a "
                "place with `jupyter volumes prune SESSION` or raise VolumePool.max_volumes."
            ) from error
    print(f"{name}: {made} made, {len(pool.catalog.spares(name))} ready")
    return 0
