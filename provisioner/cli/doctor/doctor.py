"""`jupyter volumes doctor`: checks the installation and the root, and names the cure of each fault."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from functools import partial

from traitlets.config import Config

from provisioner.cli.doctor.configuration import read_settings
from provisioner.cli.doctor.finding import Finding, Level, findings_of
from provisioner.cli.doctor.installation import check_installation
from provisioner.cli.doctor.kernelspecs import check_kernelspecs
from provisioner.cli.doctor.storage import check_reflinks, check_root, check_space
from provisioner.cli.doctor.table import check_table
from provisioner.cli.output.terminal import complain, print_json
from provisioner.core.errors import VolumeError
from provisioner.pool.pool import pool_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `doctor`."""
    parser.add_argument(
        "--repair",
        action="store_true",
        help="carry out the cures that are safe: close the root to others, rebuild a damaged table, correct records",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Repair if asked to, then print the findings; 1 if one of them is bad."""
    repaired = _repair(args.config) if args.repair else []
    findings = list(check_all(args.config))
    if args.json:
        print_json(
            {
                "repaired": [str(finding) for finding in repaired],
                "findings": [_described(finding) for finding in findings],
            }
        )
    else:
        for finding in repaired:
            print(f"cured {finding.subject}: {finding.message}")
        for finding in findings:
            print(finding)
    return 1 if any(finding.level is Level.BAD for finding in findings) else 0


def check_all(given: Config | None) -> Iterator[Finding]:
    """Yield all findings; checks that depend on something broken are skipped.

    Parameters
    ----------
    given
        The settings of the command line.
    """
    yield from findings_of("installation", None, check_installation)
    settings, found = read_settings(given)
    yield from found
    if settings is None:
        return
    root = settings.root_path
    of_root = list(findings_of("root", root, partial(check_root, settings)))
    yield from of_root
    if os.path.isdir(root) and all(finding.level is not Level.BAD for finding in of_root):
        yield from findings_of("free space", root, partial(check_space, root))
        yield from findings_of("files", root, partial(check_reflinks, root))
        yield from findings_of("table", root, partial(check_table, pool_of(settings)))
    yield from findings_of("kernelspec", None, partial(check_kernelspecs, settings))


def _repair(given: Config | None) -> list[Finding]:
    """Carry out the repairs, and check again, since one repair may expose the next fault; return what was repaired."""
    tried: set[str] = set()
    repaired: list[Finding] = []
    while True:
        fresh = [f for f in check_all(given) if f.repair is not None and f.message not in tried]
        if not fresh:
            return repaired
        for finding in fresh:
            tried.add(finding.message)
            if _is_repaired(finding):
                repaired.append(finding)


def _is_repaired(finding: Finding) -> bool:
    assert finding.repair is not None
    try:
        finding.repair()
    except (VolumeError, OSError) as error:
        complain(f"{finding.subject} could not be cured: {error}")
        return False
    return True


def _described(finding: Finding) -> dict[str, object]:
    return {
        "level": finding.level,
        "subject": finding.subject,
        "said": finding.message,
        "cure": finding.cure,
    }
