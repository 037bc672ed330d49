"""Whether the kernelspecs that give volumes are there, and their kernels can be started."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from ...environment import interpreter_of
from ..installed import PACKAGED, Installed, kernelspecs
from ..stanza import DEFAULT_LAUNCHER, faults
from .finding import Finding, Level


def check_kernels(root: Path) -> Iterator[Finding]:
    """Yield what is found of the kernelspecs; `root` is where volumes lie."""
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
        elif found.stanza.gives_volume:
            yield from _check(found, root)


def _check(found: Installed, root: Path) -> Iterator[Finding]:
    troubles = list(faults(found.stanza, found.name, root))
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


def _missing_program(found: Installed) -> str | None:
    """Return the program that does not exist; other launchers may start theirs on another machine."""
    argv = found.content.get("argv")
    if found.stanza.launcher != DEFAULT_LAUNCHER:
        return None
    if not isinstance(argv, list) or not argv:
        return ""
    program = interpreter_of(str(argv[0]))
    return None if shutil.which(program) else program
