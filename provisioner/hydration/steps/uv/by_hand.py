"""What a user has installed in an environment by hand: told apart, and installed again in another one."""

from __future__ import annotations

from collections.abc import Sequence, Set
from pathlib import Path

from provisioner.core.errors import HydrationFailed
from provisioner.hydration.lost_packages import arguments, normalized
from provisioner.hydration.steps.uv.record import installed, record_of
from provisioner.hydration.steps.uv.tool import Uv
from provisioner.hydration.steps.uv.tree import site_packages


def by_hand(environment: Path) -> Set[str]:
    """Return the names of what is installed in an environment, and was not by the uv step."""
    declared = record_of(environment).get("installed", ())
    return installed(environment).keys() - {normalized(str(name)) for name in declared}


def install_again(earlier: Path, new: Path, uv: Uv) -> list[str]:
    """Install what a user had in an earlier environment, where the new one is no copy of it.

    It was of another interpreter, or an overlay over the server's packages.

    Returns
    -------
    What is nowhere to be had, as one would ask an installer for it.
    """
    before, packages = installed(earlier), site_packages(earlier)
    names = sorted(by_hand(earlier) - installed(new).keys())
    if not names or packages is None:
        return []
    found = arguments(packages)
    wanted = [found.get(name, (f"{name}=={before[name]}",)) for name in names]
    # What is declared has the say: a package that does not get on with it is told of.
    pins = [f"{name}=={version}" for name, version in installed(new).items()]
    if _are_installed(uv, new, pins, *wanted):
        return []
    # One that is nowhere to be had must not keep the others away.
    return [" ".join(one) for one in wanted if not _are_installed(uv, new, pins, one)]


def _are_installed(
    uv: Uv, environment: Path, pins: Sequence[str], *wanted: tuple[str, ...]
) -> bool:
    options = [word for one in wanted for word in one if len(one) > 1]  # `-e PATH`
    plain = [one[0] for one in wanted if len(one) == 1]
    try:
        uv.install(environment / "bin/python", (*options, "--", *plain), Path("/"), pins)
    except HydrationFailed:
        return False
    return True
