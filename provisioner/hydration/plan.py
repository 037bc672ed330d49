"""From what a kernelspec declares to the steps that bring it about, in their order."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from provisioner.core.errors import ConfigError
from provisioner.hydration.step import Step
from provisioner.settings.options import KernelOptions

if TYPE_CHECKING:
    from provisioner.hydration.steps.uv.declaration import Declaration

# Each step is imported where a kernelspec declares it: every process that starts a kernel pays for the rest.


def plan(options: KernelOptions, uv_cache: Path) -> list[Step]:
    """Return the steps in their order: Nix, Python, bootstrap command, those of entry points.

    Parameters
    ----------
    options
        What the kernelspec declares.
    uv_cache
        uv's cache, which all volumes share; best on their file system.

    Raises
    ------
    ConfigError
        An option makes no sense, or no installed package knows it.
    """
    steps: list[Step] = []
    stale: Literal["fail", "warn"] = "warn" if options.stale == "warn" else "fail"
    if options.nix_profile is not None:
        from provisioner.hydration.steps.nix.profile import NixProfile

        steps.append(NixProfile(options.nix_profile, tuple(options.nix_watch), stale))
    if (declaration := _declaration(options)) is not None:
        from provisioner.hydration.steps.uv.step import UvEnvironment

        steps.append(UvEnvironment(declaration, uv_cache, options.requires_python, stale))
    elif options.overlay:
        from provisioner.hydration.steps.overlay.step import Overlay

        steps.append(Overlay(options.requires_python))
    if options.bootstrap_command:
        from provisioner.hydration.steps.command import BootstrapCommand

        steps.append(BootstrapCommand(tuple(options.bootstrap_command), options.bootstrap_timeout))
    if options.further:
        from provisioner.hydration.foreign import foreign_step

        steps += [foreign_step(option, value) for option, value in options.further.items()]
        names = [step.name for step in steps]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(
                    f"two hydration steps have the name {name!r}: leave out one of the options that add them"
                )
    return steps


def _declaration(options: KernelOptions) -> Declaration | None:
    if options.pyproject is None and options.requirements is None:
        return None
    from provisioner.hydration.steps.uv.declaration import Project, Requirements

    if options.pyproject is not None:
        if options.requirements is not None:
            raise ConfigError(
                "requirements and pyproject are both given: keep one, "
                "or add the requirements to the project"
            )
        return Project(options.pyproject)
    if isinstance(options.requirements, str):
        return Requirements(file=options.requirements)
    return Requirements(tuple(options.requirements))
