"""`jupyter volumes doctor`: what is well, what is not, and what cures it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from functools import partial

from traitlets.config import Config

from provisioner.cli.doctor.configuration import read_settings
from provisioner.cli.doctor.finding import Finding, Level, examined
from provisioner.cli.doctor.installation import check_installation
from provisioner.cli.doctor.kernels import check_kernels
from provisioner.cli.doctor.storage import check_reflinks, check_root, check_space
from provisioner.cli.doctor.table import check_table
from provisioner.cli.output.terminal import complain, print_json
from provisioner.core.errors import VolumeError
from provisioner.pool.pools import pool_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `doctor`."""
    parser.add_argument(
        "--repair",
        action="store_true",
        help="do what is safe: close the root to others, rebuild a damaged table, correct records",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the findings, after the repairs if there were any; 1 if something is bad."""
    repaired = _repair(args.config) if args.repair else []
    findings = list(examine(args.config))
    if args.json:
        print_json(
            {
                "repaired": [str(finding) for finding in repaired],
                "findings": [_described(finding) for finding in findings],
            }
        )
    else:
        for finding in repaired:
            print(f"cured {finding.subject}: {finding.said}")
        for finding in findings:
            print(finding)
    return 1 if any(finding.level is Level.BAD for finding in findings) else 0


def examine(given: Config | None) -> Iterator[Finding]:
    """Yield all findings; what depends on something that is broken is passed over.

    Parameters
    ----------
    given
        The settings of the command line.
    """
    yield from examined("installation", None, check_installation)
    settings, found = read_settings(given)
    yield from found
    if settings is None:
        return
    root = settings.root_path
    roots = list(examined("root", root, partial(check_root, settings)))
    yield from roots
    if os.path.isdir(root) and all(finding.level is not Level.BAD for finding in roots):
        yield from examined("free space", root, partial(check_space, root))
        yield from examined("files", root, partial(check_reflinks, root))
        yield from examined("table", root, partial(check_table, pool_of(settings)))
    yield from examined("kernelspec", None, partial(check_kernels, settings))


def _repair(given: Config | None) -> list[Finding]:
    """Cure what can be cured, and look again, for one cure may show the next trouble; return what was cured."""
    tried: set[str] = set()
    cured: list[Finding] = []
    while True:
        fresh = [f for f in examine(given) if f.repair is not None and f.said not in tried]
        if not fresh:
            return cured
        for finding in fresh:
            tried.add(finding.said)
            if _cure(finding):
                cured.append(finding)


def _cure(finding: Finding) -> bool:
    assert finding.repair is not None
    try:
        finding.repair()
    except (VolumeError, OSError) as error:
        complain(f"{finding.subject} could not be cured: {error}")
        return False
    return True


def _described(finding: Finding) -> dict[str, str]:
    return {
        "level": finding.level.value,
        "subject": finding.subject,
        "said": finding.said,
        "cure": finding.cure,
    }
