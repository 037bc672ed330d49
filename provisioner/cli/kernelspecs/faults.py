"""What is wrong with the options of a kernelspec, as far as it can be told before a kernel starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from provisioner.core.errors import ConfigError, HydrationFailed
from provisioner.core.logins import without_logins
from provisioner.hydration.kernelspec import PROVISIONER, Stanza
from provisioner.hydration.plan import plan
from provisioner.settings.options import KernelOptions

PROVISIONERS = "jupyter_client.kernel_provisioners"
"""The group of entry points in which Jupyter looks for provisioners."""


def launchers() -> set[str]:
    """Return the names of the installed provisioners that can start a kernel for us."""
    return {point.name for point in entry_points(group=PROVISIONERS)} - {PROVISIONER}


def faults(stanza: Stanza, kernelspec: str, root: Path) -> Iterator[str]:
    """Yield what is wrong with the options of a kernelspec that gives volumes, each with its cure.

    Paths that start at the volume are not looked at: what they name may come with the volume.

    Parameters
    ----------
    stanza
        What the kernelspec says, or shall say.
    kernelspec
        Its name, for messages.
    root
        Where volumes lie.
    """
    launcher = stanza.launcher
    if launcher == PROVISIONER:
        yield (
            f"The launcher of kernelspec {kernelspec!r} is {PROVISIONER!r} itself; "
            'name the provisioner that starts the process, such as "local-provisioner".'
        )
    elif isinstance(launcher, str) and launcher not in launchers():
        yield (
            f"The launcher {launcher!r} of kernelspec {kernelspec!r} is not installed; "
            f"install its package or use one of {', '.join(sorted(launchers()))}."
        )
    options = KernelOptions()
    try:
        options.take(stanza.config, kernelspec)
        plan(options, root / "cache" / "uv")
    except ConfigError as error:
        yield str(error)
        return
    of = f"of kernelspec {kernelspec!r}"
    for requirement in options.requirements if isinstance(options.requirements, list) else ():
        yield from _of_requirement(requirement, of)
    if isinstance(options.requirements, str):
        yield from _of_requirements_file(Path(options.requirements), of)
    if options.requires_python is not None:
        yield from _of_requires_python(options.requires_python, of)
    if options.pyproject is not None:
        yield from _of_pyproject(Path(options.pyproject), of)
    if options.nix_profile is not None:
        yield from _of_nix_profile(options.nix_profile)


def _of_requirement(text: str, of: str) -> Iterator[str]:
    before, slash, _ = text.partition("/")
    if slash and "@" not in before:
        # A path or an address, which uv takes too; `name @ address` is a requirement as any.
        path = Path(text.partition("[")[0])
        if path.is_absolute() and not path.exists():
            yield f"The requirement {text} {of} does not exist; correct the path."
        return
    try:
        Requirement(text)
    except InvalidRequirement:
        yield (
            f"The requirement {without_logins(repr(text))} {of} is none; "
            "write a package's name and its versions, such as 'pandas>=2'."
        )


def _of_requirements_file(path: Path, of: str) -> Iterator[str]:
    if path.is_absolute() and not (path.is_file() and os.access(path, os.R_OK)):
        yield f"The requirements file {path} {of} cannot be read; make it, or correct the path."


def _of_requires_python(text: str, of: str) -> Iterator[str]:
    try:
        SpecifierSet(text)
    except InvalidSpecifier:
        yield f"requires_python {of} is {text!r}, which names no versions; write it like '>=3.11'."


def _of_pyproject(path: Path, of: str) -> Iterator[str]:
    directory = path.parent if path.name == "pyproject.toml" else path
    if path.is_absolute() and not (directory / "pyproject.toml").is_file():
        yield f"There is no pyproject.toml in {directory}, the project {of}; make one, or correct the path."


def _of_nix_profile(text: str) -> Iterator[str]:
    from provisioner.hydration.steps.nix.reference import classify

    path = text.removeprefix("path:").removeprefix("git+file:").removeprefix("//")
    if path.startswith(".") or (path.endswith(".nix") and not path.startswith(("/", "~"))):
        return
    try:
        classify(text, Path("/"), os.environ)
    except HydrationFailed as error:
        yield f"{error}."
