"""`jupyter volumes doctor`: checks the installation and the root, and names the cure of each fault."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator

from traitlets.config import Config

from provisioner.cli.arguments import add_switch
from provisioner.cli.doctor.finding import Finding, Level, findings_of
from provisioner.cli.doctor.installation import check_installation
from provisioner.cli.doctor.kernelspecs import check_kernelspecs
from provisioner.cli.doctor.storage import check_reflinks, check_root, check_space
from provisioner.cli.doctor.table import check_table
from provisioner.cli.output.terminal import complain, print_json
from provisioner.core.errors import ConfigError, VolumeError
from provisioner.pool.pool import pool_of
from provisioner.settings.pool import ROOT_VARIABLE, VolumePool, load_settings
from provisioner.settings.sources import FILE_NAME, file_origins


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `doctor`."""
    add_switch(
        parser,
        "--repair",
        "carry out the cures that are safe: close the root to others, rebuild a damaged table, correct records",
    )
    add_switch(parser, "--json", "print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Repair if asked to, then print the findings; 1 if one of them is bad."""
    repaired = _repair(args.config) if args.repair else []
    findings = list(check_all(args.config))
    if args.json:
        print_json(
            {
                "repaired": [str(finding) for finding in repaired],
                "findings": [
                    {"level": f.level, "subject": f.subject, "said": f.message, "cure": f.cure}
                    for f in findings
                ],
            }
        )
    else:
        for finding in repaired:
            print(f"cured {finding.subject}: {finding.message}")
        for finding in findings:
            print(finding)
    return 1 if any(finding.level is Level.BAD for finding in findings) else 0


def check_all(given: Config | None) -> Iterator[Finding]:
    """Yield all findings for these settings of the command line; what depends on something broken is not checked."""
    yield from findings_of("installation", None, check_installation)
    try:
        settings = load_settings(given)
        yield from _check_settings(settings)
    except ConfigError as error:
        yield Finding(Level.BAD, "settings", str(error))
        return
    except OSError as error:
        message = f"{error.filename} cannot be read ({error.strerror})"
        yield Finding(Level.BAD, "settings", message, "make it readable for you")
        return
    root = settings.root_path
    of_root = list(findings_of("root", root, check_root, settings))
    yield from of_root
    if os.path.isdir(root) and all(finding.level is not Level.BAD for finding in of_root):
        yield from findings_of("free space", root, check_space, root)
        yield from findings_of("files", root, check_reflinks, root)
        yield from findings_of("table", root, check_table, pool_of(settings))
    yield from findings_of("kernelspec", None, check_kernelspecs, settings)


def _check_settings(settings: VolumePool) -> Iterator[Finding]:
    """Yield where the settings come from."""
    files = ", ".join(origin.label for origin in file_origins())
    message = f"read from {files}" if files else f"all defaults (no {FILE_NAME}.py or .json found)"
    yield Finding(Level.OK, "settings", message)
    if root := os.environ.get(ROOT_VARIABLE):
        yield Finding(Level.INFO, "settings", f"${ROOT_VARIABLE} sets the root to {root}")
    if not settings.enabled:
        message = "VolumePool.enabled is False, so kernels that need a volume do not start"
        yield Finding(Level.WARN, "settings", message, "set it to True")


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
            assert finding.repair is not None
            try:
                finding.repair()
                repaired.append(finding)
            except (VolumeError, OSError) as error:
                complain(f"{finding.subject} could not be cured: {error}")
