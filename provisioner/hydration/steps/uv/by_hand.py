"""Packages that a user has installed by hand: found in one environment, installed again in another."""

from __future__ import annotations

from collections.abc import Sequence, Set
from pathlib import Path

from provisioner.core.errors import HydrationFailed
from provisioner.hydration.steps.python.packages import (
    arguments,
    installed,
    normalized,
    site_packages,
)
from provisioner.hydration.steps.uv.tool import Uv
from provisioner.hydration.steps.uv.venv import record_of


def by_hand(environment: Path) -> Set[str]:
    """Return the names of the packages in an environment that the uv step did not install."""
    declared = record_of(environment).get("installed", ())
    return installed(environment).keys() - {normalized(str(name)) for name in declared}


def install_again(earlier: Path, new: Path, uv: Uv) -> list[str]:
    """Install the packages that a user had in an earlier environment, if the new one is no copy of it.

    It is no copy if the earlier one is of another interpreter, or an overlay.

    Returns
    -------
    The packages that are not available, as arguments for an installer.
    """
    before, packages = installed(earlier), site_packages(earlier)
    names = sorted(by_hand(earlier) - installed(new).keys())
    if not names or packages is None:
        return []
    found = arguments(packages)
    wanted = [found.get(name, (f"{name}=={before[name]}",)) for name in names]
    # The declaration takes precedence: packages that conflict with it are returned.
    pins = [f"{name}=={version}" for name, version in installed(new).items()]
    if _install(uv, new, pins, *wanted):
        return []
    # One by one, so that a package that is not available does not prevent the others.
    return [" ".join(one) for one in wanted if not _install(uv, new, pins, one)]


def _install(uv: Uv, environment: Path, pins: Sequence[str], *wanted: tuple[str, ...]) -> bool:
    """Install packages; return whether that was possible."""
    options = [word for one in wanted for word in one if len(one) > 1]  # `-e PATH`
    plain = [one[0] for one in wanted if len(one) == 1]
    try:
        uv.install(environment / "bin/python", (*options, "--", *plain), Path("/"), pins)
    except HydrationFailed:
        return False
    return True
