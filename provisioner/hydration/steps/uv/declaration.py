"""What uv installs: a list of requirements, a file of them, or a project with its lock file."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from provisioner.core.errors import ConfigError, HydrationFailed
from provisioner.core.logins import without_logins
from provisioner.hydration.records import digest_file, digest_text
from provisioner.hydration.steps.uv.tool import Uv

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_INCLUDED = re.compile(r"\s*(?:-r|-c|--requirements?|--constraints?)(?:\s+|=)(?P<path>[^#\s]+)")
# `-e PATH`, `name[extra] @ PATH` or `PATH`.
_LOCATION = re.compile(
    r"\s*(?P<editable>(?:-e|--editable)[\s=]\s*)?(?:[\w.-]+(?:\[[^]]*\])?\s*@\s*)?(?P<location>[^#;\s\[]+)"
)
_HASHES = re.compile(r"\s*--require-hashes\b")
# `name[extra]==version; marker --hash=…`; a constraint must not have the extra.
_PIN = re.compile(
    r"\s*(?P<name>[\w.-]+)(?:\[[^]]*\])?\s*(?P<version>===?\s*[^\s;\\#]+)"
    r"(?P<marker>\s*;(?:(?!\s--hash)[^\\#])*)?"
)
_DECIDING = ("pyproject.toml", "setup.cfg", "setup.py")
"""The files that decide what a local package needs; changes of its modules need no installation."""


@dataclass(frozen=True)
class Requirements:
    """Requirements in pip's format.

    Parameters
    ----------
    lines
        Requirements such as `pandas>=2`; no options.
    file
        A requirements file, which may have options; a relative path starts at the volume.
    """

    lines: tuple[str, ...] = ()
    file: str | None = None

    def __post_init__(self) -> None:
        for line in self.lines:
            if not line.strip() or line.startswith("-") or not line.isprintable():
                raise ConfigError(
                    f"requirements has {without_logins(repr(line))}, which is no requirement: "
                    "write options into a requirements file and name that"
                )

    def inputs(self, volume: Path) -> Mapping[str, str]:
        """Return the digests of the list, the file, the files that it includes, and of packages on this machine."""
        inputs = {"requirements": digest_text("\n".join(self.lines))}
        for line in self.lines:
            inputs |= _local(line, Path("/"))
        for path in _included(volume / self.file) if self.file is not None else ():
            inputs[str(path)] = digest_file(path)
            for line in _lines(path):
                inputs |= _local(line, path.parent)
        return inputs

    def install(self, uv: Uv, python: Path, volume: Path, also: tuple[str, ...]) -> None:
        """Install all in one resolution; in two if a file requires hashes, which `also` does not have."""
        if self.file is None:
            # uv reads configuration from the directory upwards; the volume's must not count
            uv.install(python, ("--", *self.lines, *also), Path("/"))
            return
        path = volume / self.file
        if not path.is_file():
            raise HydrationFailed(
                f"the requirements file {path} does not exist: create it or correct the path"
            )
        lines = [line for file in _included(path) for line in _lines(file)]
        if any(map(_HASHES.match, lines)):
            # Nobody compared the packages that exist already with hashes: they are another kernelspec's, or
            # were installed by hand.
            uv.install(python, ("--reinstall", "--requirements", str(path)), path.parent)
            # If the file itself were the constraints, it would require hashes of these as well.
            pinned = filter(None, map(_PIN.match, lines))
            pins = (f"{pin['name']}{pin['version']}{pin['marker'] or ''}" for pin in pinned)
            uv.install(python, ("--", *also), path.parent, pins)
        else:
            uv.install(python, ("--requirements", str(path), "--", *also), path.parent)


@dataclass(frozen=True)
class Project:
    """A project's dependencies, as its `uv.lock` pins them.

    Parameters
    ----------
    path
        The project's directory or its pyproject.toml; a relative path starts at the volume.
    """

    path: str

    def inputs(self, volume: Path) -> Mapping[str, str]:
        """Return the digests of pyproject.toml and of uv.lock, which uv may have written."""
        directory = self._directory(volume)
        files = (directory / "pyproject.toml", _lock(directory))
        return {str(path): digest_file(path) for path in files}

    def install(self, uv: Uv, python: Path, volume: Path, also: tuple[str, ...]) -> None:
        """Install what the lock pins, then what is missing of the further requirements."""
        directory = self._directory(volume)
        if not (directory / "pyproject.toml").is_file():
            raise HydrationFailed(
                f"there is no pyproject.toml in {directory}: create it or correct the path"
            )
        uv.sync(python, directory, locked=_lock(directory).is_file())
        uv.install(python, ("--", *also), Path("/"))

    def _directory(self, volume: Path) -> Path:
        path = volume / self.path
        return path.parent if path.name == "pyproject.toml" else path


Declaration = Requirements | Project
"""What is installed in an environment."""


def _lock(project: Path) -> Path:
    """Return where a project's lock is or will be: in its directory, or in that of the workspace it belongs to."""
    own = project / "uv.lock"
    for directory in () if own.is_file() else project.parents:
        member = re.escape(project.relative_to(directory).as_posix())
        source = re.compile(rf'source = {{ (editable|virtual) = "{member}" }}')
        lock = directory / "uv.lock"
        if any(map(source.match, _lines(lock))) or _is_new_member(directory, project):
            return lock
    return own


def _is_new_member(root: Path, project: Path) -> bool:
    """Whether a workspace has a project that its lock does not name yet; uv gives an excluded one its own lock."""
    try:
        content = tomllib.loads("\n".join(_lines(root / "pyproject.toml")))
        workspace = content["tool"]["uv"]["workspace"]
        members, excluded = (
            {path for glob in workspace.get(name, ()) for path in root.glob(glob)}
            for name in ("members", "exclude")
        )
    except (ValueError, KeyError, TypeError, AttributeError, NotImplementedError):
        return False  # uv reports it
    return project in members - excluded


def _included(path: Path) -> list[Path]:
    """Return a requirements file and those that it includes."""
    found = [path]
    for file in found:  # which grows meanwhile
        names = (match["path"] for match in map(_INCLUDED.match, _lines(file)) if match)
        paths = {file.parent / name for name in names if "://" not in name}
        found += sorted(paths.difference(found))
    return found


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []


def _local(line: str, directory: Path) -> dict[str, str]:
    """Return the digests of what determines a package on this machine: its archive, or the files that declare it."""
    match = _LOCATION.match(line)
    location = match["location"].removeprefix("file://") if match else "-"
    if location.startswith("-") or "://" in location:
        return {}
    if not (match and match["editable"]) and not location.startswith(".") and "/" not in location:
        return {}  # the name of a package in an index
    path = directory / unquote(location)
    try:
        if path.is_dir():
            return {str(path / name): digest_file(path / name) for name in _DECIDING}
        status = path.stat()
    except (OSError, ValueError):  # not readable, or no path at all
        return {str(path): "missing"}
    return {str(path): digest_text(f"{status.st_mtime_ns} {status.st_size}")}  # it may be huge
