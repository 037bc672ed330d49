"""Whether the kernelspecs with volumes are installed, and whether their kernels can start."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from provisioner.cli.doctor.finding import Finding, Level
from provisioner.core.errors import ConfigError, HydrationFailed
from provisioner.core.logins import without_logins
from provisioner.hydration.kernelspec import (
    DEFAULT_LAUNCHER,
    PACKAGED,
    PROVISIONER,
    Kernelspec,
    Stanza,
    kernelspecs,
    volume_kernelspec,
)
from provisioner.hydration.plan import plan
from provisioner.hydration.steps.nix.reference import classify
from provisioner.settings.options import KernelOptions
from provisioner.settings.pool import VolumePool

PROVISIONERS = "jupyter_client.kernel_provisioners"
"""The entry point group in which Jupyter looks for provisioners."""


def check_kernelspecs(settings: VolumePool) -> Iterator[Finding]:
    """Yield the findings about the kernelspecs, and about the settings that name one."""
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
            message = f"{found.name!r}: {found.directory / 'kernel.json'} cannot be read"
            yield Finding(Level.WARN, "kernelspec", message, "correct or remove it")
        elif found.misfit is not None or found.stanza.gives_volume:
            yield from _check(found, settings.root_path)
    for name in settings.spares:
        try:
            volume_kernelspec(name)
        except ConfigError as error:
            cure = "correct VolumePool.spares: no session can use such spares"
            yield Finding(Level.WARN, "spares", str(error).removesuffix("."), cure)


def faults(stanza: Stanza, kernelspec: str, root: Path) -> Iterator[str]:
    """Yield the faults in the options of a kernelspec that can be found before a kernel starts, each with its cure.

    Paths that are relative to the volume are not checked: a volume may bring them along.
    """
    launcher = stanza.launcher
    launchers = {point.name for point in entry_points(group=PROVISIONERS)} - {PROVISIONER}
    if launcher == PROVISIONER:
        yield (
            f"The launcher of kernelspec {kernelspec!r} is {PROVISIONER!r} itself; "
            'name the provisioner that starts the process, such as "local-provisioner".'
        )
    elif isinstance(launcher, str) and launcher not in launchers:
        yield (
            f"The launcher {launcher!r} of kernelspec {kernelspec!r} is not installed; "
            f"install its package or use one of {', '.join(sorted(launchers))}."
        )
    options = KernelOptions()
    try:
        options.take(stanza.config, kernelspec)
        plan(options, root / "cache" / "uv")
    except ConfigError as error:
        yield str(error)
    else:
        yield from _of_options(options, f"of kernelspec {kernelspec!r}")


def _check(found: Kernelspec, root: Path) -> Iterator[Finding]:
    misfit = found.misfit
    troubles = list(faults(found.stanza, found.name, root)) if misfit is None else [misfit]
    program = found.command[0] if found.command else ""
    # Other launchers may start the program on another machine.
    if found.stanza.launcher == DEFAULT_LAUNCHER and not shutil.which(program):
        troubles.append(
            f"{program!r}, which starts the kernel of {found.name!r}, does not exist; "
            "install it, or correct argv in kernel.json."
        )
    for trouble in troubles:
        yield Finding(Level.BAD, "kernelspec", trouble)
    if not troubles:
        yield Finding(Level.OK, "kernelspec", f"{found.name!r} ({found.directory})")


def _of_options(options: KernelOptions, owner: str) -> Iterator[str]:
    if isinstance(options.requirements, str):
        path = Path(options.requirements)
        if path.is_absolute() and not (path.is_file() and os.access(path, os.R_OK)):
            yield f"The requirements file {path} {owner} cannot be read; make it, or correct the path."
    else:
        for requirement in options.requirements or ():
            yield from _of_requirement(requirement, owner)
    versions = options.requires_python
    try:
        SpecifierSet(versions or "")
    except InvalidSpecifier:
        yield f"requires_python {owner} is {versions!r}, which names no versions; write it like '>=3.11'."
    if options.pyproject is not None:
        path = Path(options.pyproject)
        project = path.parent if path.name == "pyproject.toml" else path
        if path.is_absolute() and not (project / "pyproject.toml").is_file():
            yield f"There is no pyproject.toml in {project}, the project {owner}; make one, or correct the path."
    if options.nix_profile is not None:
        yield from _of_nix_profile(options.nix_profile)


def _of_requirement(text: str, owner: str) -> Iterator[str]:
    before, slash, _ = text.partition("/")
    if slash and "@" not in before:
        # A path or a URL, which uv accepts too; `name @ URL` is an ordinary requirement.
        path = Path(text.partition("[")[0])
        if path.is_absolute() and not path.exists():
            yield f"The requirement {text} {owner} does not exist; correct the path."
        return
    try:
        Requirement(text)
    except InvalidRequirement:
        yield (
            f"The requirement {without_logins(repr(text))} {owner} is not valid; "
            "write a package's name and its versions, such as 'pandas>=2'."
        )


def _of_nix_profile(text: str) -> Iterator[str]:
    path = text.removeprefix("path:").removeprefix("git+file:").removeprefix("//")
    if path.startswith(".") or (path.endswith(".nix") and not path.startswith(("/", "~"))):
        return
    try:
        classify(text, Path("/"), os.environ)
    except HydrationFailed as error:
        yield f"{error}."
