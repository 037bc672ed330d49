"""Whether the kernelspecs that give volumes are there, and their kernels can be started."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from provisioner.cli.doctor.finding import Finding, Level
from provisioner.cli.kernelspecs.faults import faults
from provisioner.core.errors import ConfigError
from provisioner.hydration.kernelspec import (
    DEFAULT_LAUNCHER,
    PACKAGED,
    Kernelspec,
    kernelspecs,
    volume_kernelspec,
)
from provisioner.settings.pool import VolumePool


def check_kernels(settings: VolumePool) -> Iterator[Finding]:
    """Yield what is found of the kernelspecs, and of the settings that name one."""
    installed = list(kernelspecs())
    if not any(found.name == PACKAGED for found in installed):
        yield Finding(
            Level.BAD,
            "kernelspec",
            f"{PACKAGED!r} is not installed where Jupyter looks (`jupyter --paths`)",
            "`pip install --force-reinstall jupyter-volumes`, or make one with "
            f"`jupyter volumes kernelspec add {PACKAGED} --from python3`",
        )
    for found in installed:
        if not found.content:
            said = f"{found.name!r}: {found.directory / 'kernel.json'} cannot be read"
            yield Finding(Level.WARN, "kernelspec", said, "correct or remove it")
        elif found.misfit is not None or found.stanza.gives_volume:
            yield from _check(found, settings.root_path)
    for name in settings.spares:
        try:
            volume_kernelspec(name)
        except ConfigError as error:
            cure = "correct VolumePool.spares: nobody can claim such spares"
            yield Finding(Level.WARN, "spares", str(error).removesuffix("."), cure)


def _check(found: Kernelspec, root: Path) -> Iterator[Finding]:
    misfit = found.misfit
    troubles = list(faults(found.stanza, found.name, root)) if misfit is None else [misfit]
    program = _missing_program(found)
    if program is not None:
        troubles.append(
            f"{program!r}, which starts the kernel of {found.name!r}, does not exist; "
            "install it, or correct argv in kernel.json."
        )
    for trouble in troubles:
        yield Finding(Level.BAD, "kernelspec", trouble)
    if not troubles:
        yield Finding(Level.OK, "kernelspec", f"{found.name!r} ({found.directory})")


def _missing_program(found: Kernelspec) -> str | None:
    """Return the program that does not exist; other launchers may start theirs on another machine."""
    if found.stanza.launcher != DEFAULT_LAUNCHER:
        return None
    program = found.command[0] if found.command else ""
    return None if shutil.which(program) else program
