"""`jupyter volumes warm KERNELSPEC`: makes hydrated volumes ready for new sessions."""

from __future__ import annotations

import argparse
import sys

from provisioner.cli.interruption import interruptible
from provisioner.cli.output.progress import step_lines
from provisioner.cli.output.quantity import whole_number
from provisioner.cli.selection import open_pool
from provisioner.core.errors import PoolFull
from provisioner.hydration.kernelspec import volume_kernelspec
from provisioner.maintenance.spares import warm
from provisioner.pool.pool import Pool


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
    name = _kernelspec(pool, args)
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


def _kernelspec(pool: Pool, args: argparse.Namespace) -> str:
    """Return the name of the kernelspec. The spares of a removed one can be retired, but none can be made."""
    name: str = args.kernelspec
    if args.spares == 0 and pool.catalog.spares(name):
        return name
    return volume_kernelspec(name).name
