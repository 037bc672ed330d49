"""`jupyter volumes warm KERNELSPEC`: make hydrated volumes ready for sessions to come."""

from __future__ import annotations

import argparse

from provisioner.cli.output.quantity import whole_number
from provisioner.cli.output.transfer import interruptible
from provisioner.cli.selection import open_pool
from provisioner.core.errors import Cancelled, PoolFull
from provisioner.hydration.kernelspec import volume_kernelspec
from provisioner.maintenance.spares import warm
from provisioner.pool.pool import Pool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `warm`."""
    parser.add_argument("kernelspec", metavar="KERNELSPEC", help="whose spares are made")
    parser.add_argument(
        "-n",
        "--spares",
        type=whole_number(0),
        metavar="N",
        help="how many to have ready; as VolumePool.spares says, or 1, if not given; 0 retires all",
    )


def run(args: argparse.Namespace) -> int:
    """Make what is missing, replace what is out of date, retire what is too many."""
    pool = open_pool(args)
    name = _kernelspec(pool, args)
    wanted = args.spares if args.spares is not None else pool.settings.spares.get(name, 1)

    def tell(step: str, message: str, fraction: float | None = None) -> None:
        print(f"{step}: {message}", flush=True)

    with interruptible() as cancel:
        try:
            made = warm(pool, name, wanted, progress=tell, cancel=cancel)
        except Cancelled as error:
            raise KeyboardInterrupt from error
        except PoolFull as error:
            raise PoolFull(
                f"{error} {len(pool.catalog.spares(name))} of {wanted} spares of {name!r} are ready; for more, free a "
                "place with `jupyter volumes prune SESSION` or raise VolumePool.max_volumes."
            ) from error
    print(f"{name}: {made} made, {len(pool.catalog.spares(name))} ready")
    return 0


def _kernelspec(pool: Pool, args: argparse.Namespace) -> str:
    """Return whose spares are meant. Those of a kernelspec that is gone can still be retired, but none are made."""
    name: str = args.kernelspec
    if args.spares == 0 and pool.catalog.spares(name):
        return name
    return volume_kernelspec(name).name
