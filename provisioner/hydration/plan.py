"""From what a kernelspec declares to the steps that bring it about, in their order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from provisioner.errors import ConfigError
from provisioner.hydration.step import Step

if TYPE_CHECKING:
    from provisioner.hydration.uv import Declaration

# Each step is imported where a kernelspec declares it: every process that starts a kernel pays for the rest.

ENTRY_POINTS = "provisioner.hydration_steps"
"""The entry point group of further steps.

An entry point's name is the kernelspec option that it adds. It loads a function that takes the option's
value, as JSON has it, and returns a `Step`; for a value it does not like it raises `ConfigError`.
"""


@dataclass(frozen=True)
class HydrationOptions:
    """What a kernelspec declares.

    Parameters
    ----------
    bootstrap_command
        An argv to run once per volume and again when it changes; empty for none.
    bootstrap_timeout
        How long it may take; None for never too long.
    nix_profile
        A flake reference, a Nix expression, a store path or a profile.
    nix_watch
        Further files that the Nix environment depends on.
    stale
        Whether a Nix or Python environment that cannot be brought up to date fails the start.
    requirements
        Python requirements: a list, or the path of a file.
    requires_python
        What the Python interpreter must satisfy.
    pyproject
        A directory with pyproject.toml and uv.lock.
    overlay
        Give the volume an overlay environment, if neither of the two before does.
    uv_cache
        The cache that all volumes share; best on their file system.
    extra
        Options of steps from entry points, in their order.
    """

    uv_cache: Path
    bootstrap_command: tuple[str, ...] = ()
    bootstrap_timeout: timedelta | None = None
    nix_profile: str | None = None
    nix_watch: tuple[str, ...] = ()
    stale: Literal["fail", "warn"] = "fail"
    requirements: tuple[str, ...] | str | None = None
    requires_python: str | None = None
    pyproject: str | None = None
    overlay: bool = True
    extra: Mapping[str, object] = field(default_factory=dict)


def plan(options: HydrationOptions) -> list[Step]:
    """Return the steps in their order: Nix, Python, bootstrap command, those of entry points.

    Raises
    ------
    ConfigError
        An option makes no sense, or no installed package knows it.
    """
    steps: list[Step] = []
    if options.nix_profile is not None:
        from provisioner.hydration.nix import NixProfile

        steps.append(NixProfile(options.nix_profile, options.nix_watch, options.stale))
    if (declaration := _declaration(options)) is not None:
        from provisioner.hydration.uv import UvEnvironment

        steps.append(
            UvEnvironment(declaration, options.uv_cache, options.requires_python, options.stale)
        )
    elif options.overlay:
        from provisioner.hydration.overlay import Overlay

        steps.append(Overlay(options.requires_python))
    if options.bootstrap_command:
        from provisioner.hydration.command import BootstrapCommand

        steps.append(BootstrapCommand(options.bootstrap_command, options.bootstrap_timeout))
    if options.extra:
        from provisioner.hydration.foreign import foreign_step

        steps += [foreign_step(option, value) for option, value in options.extra.items()]
        names = [step.name for step in steps]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(
                    f"two hydration steps have the name {name!r}: leave out one of the options that add them"
                )
    return steps


def _declaration(options: HydrationOptions) -> Declaration | None:
    if options.pyproject is None and options.requirements is None:
        return None
    from provisioner.hydration.uv import Project, Requirements

    if options.pyproject is not None:
        if options.requirements is not None:
            raise ConfigError(
                "requirements and pyproject are both given: keep one, "
                "or add the requirements to the project"
            )
        return Project(options.pyproject)
    if isinstance(options.requirements, str):
        return Requirements(file=options.requirements)
    return Requirements(options.requirements or ())
