"""From what a kernelspec declares to the steps that hydrate it, in their order."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from provisioner.core.errors import ConfigError
from provisioner.hydration.step import Step
from provisioner.settings.options import KernelOptions

if TYPE_CHECKING:
    from provisioner.hydration.steps.uv.declaration import Declaration

# Each step is imported only where a kernelspec declares it: every kernel start pays for these imports.


def plan(options: KernelOptions, uv_cache: Path) -> list[Step]:
    """Return the steps in their order: Nix, Python, bootstrap command, then those of other packages.

    `uv_cache` is shared by all volumes, and best on their file system.

    Raises
    ------
    ConfigError
        Options contradict each other, or no installed package knows an option.
    """
    steps: list[Step] = []
    stale: Literal["fail", "warn"] = "warn" if options.stale == "warn" else "fail"
    if options.nix_profile is not None:
        from provisioner.hydration.steps.nix.step import NixProfile

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
        from provisioner.hydration.steps.third_party import third_party_step

        steps += [third_party_step(option, value) for option, value in options.further.items()]
        names = [step.name for step in steps]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ConfigError(
                f"two hydration steps have the name {twice[0]!r}: leave out one of the options that add them"
            )
    return steps


def _declaration(options: KernelOptions) -> Declaration | None:
    if options.pyproject is None and options.requirements is None:
        return None
    from provisioner.hydration.steps.uv.declaration import Project, Requirements

    if options.pyproject is not None:
        if options.requirements is not None:
            raise ConfigError(
                "requirements and pyproject are both given: keep one, or add the requirements to the project"
            )
        return Project(options.pyproject)
    if isinstance(options.requirements, str):
        return Requirements(file=options.requirements)
    return Requirements(tuple(options.requirements))
