"""What is to be installed: a list of requirements, a file of them, or a project with its lock."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol
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
# What may stand before the place of a package, and the place itself.
_PLACE = re.compile(
    r"\s*(?P<editable>(?:-e|--editable)[\s=]\s*)?(?:[\w.-]+(?:\[[^]]*\])?\s*@\s*)?(?P<place>[^#;\s\[]+)"
)
_WORKSPACE = re.compile(r"\s*\[\s*tool\.uv\.workspace\s*\]")
_HASHES = re.compile(r"\s*--require-hashes\b")
# `name[extra]==version; marker --hash=…`, of which the extra may not stand in a constraint.
_PIN = re.compile(
    r"\s*(?P<name>[\w.-]+)(?:\[[^]]*\])?\s*(?P<version>===?\s*[^\s;\\#]+)"
    r"(?P<marker>\s*;(?:(?!\s--hash)[^\\#])*)?"
)
_DECIDING = ("pyproject.toml", "setup.cfg", "setup.py")
"""The files that say what a package needs and is; its modules are for uv and the editor to follow."""


class Declaration(Protocol):
    """What is to be installed."""

    def inputs(self, volume: Path) -> Mapping[str, str]:
        """Return the digest of each file and list that decides it."""
        ...

    def install(self, uv: Uv, python: Path, volume: Path, also: tuple[str, ...]) -> None:
        """Install it into the environment of an interpreter, with further requirements."""
        ...


@dataclass(frozen=True)
class Requirements:
    """Requirements as pip has them.

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
        """Return the digests of the list, the file, the files that it includes, and of what lies on this machine."""
        inputs = {"requirements": digest_text("\n".join(self.lines))}
        for line in self.lines:
            inputs |= _local(line, Path("/"))
        for path in _included(volume / self.file) if self.file is not None else ():
            inputs[str(path)] = digest_file(path)
            for line in _lines(path):
                inputs |= _local(line, path.parent)
        return inputs

    def install(self, uv: Uv, python: Path, volume: Path, also: tuple[str, ...]) -> None:
        """Install all in one resolution; in two, where a file demands hashes, which the further ones have not."""
        if self.file is None:
            # uv reads configuration from there upwards; the volume's is not meant
            uv.install(python, ("--", *self.lines, *also), Path("/"))
            return
        path = volume / self.file
        if not path.is_file():
            raise HydrationFailed(
                f"the requirements file {path} does not exist: create it or correct the path"
            )
        if any(_HASHES.match(line) for file in _included(path) for line in _lines(file)):
            # What is there already was not compared with a hash: another kernelspec's, or installed by hand.
            uv.install(python, ("--reinstall", "--requirements", str(path)), path.parent)
            # Given as constraints, the file itself would demand hashes of these as well.
            uv.install(python, ("--", *also), path.parent, _pins(path))
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
        """Install what the lock says, then what is missing of the further requirements."""
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


def _lock(project: Path) -> Path:
    """Return where a project's lock is, or will be: beside it, or beside the workspace that it is a member of."""
    own = project / "uv.lock"
    for directory in () if own.is_file() else project.parents:
        lines = _lines(directory / "pyproject.toml")
        if any(_WORKSPACE.match(line) for line in lines):
            return directory / "uv.lock" if _has_member(directory, lines, project) else own
    return own


def _has_member(root: Path, lines: list[str], project: Path) -> bool:
    """Whether a workspace takes a project in; uv locks one that it leaves out by itself."""
    parts = project.relative_to(root).parts
    try:
        workspace = tomllib.loads("\n".join(lines))["tool"]["uv"]["workspace"]
        members, left_out = (
            any(_fits(parts, Path(glob).parts) for glob in workspace.get(name, ()))
            for name in ("members", "exclude")
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return False  # for uv to complain of
    return members and not left_out


def _fits(parts: tuple[str, ...], globs: tuple[str, ...]) -> bool:
    """Whether a relative path is one that globs stand for, part by part; `**` stands for any number of them."""
    if not globs:
        return not parts
    if globs[0] == "**":
        return any(_fits(parts[n:], globs[1:]) for n in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], globs[0]) and _fits(parts[1:], globs[1:])


def _pins(path: Path) -> Iterator[str]:
    """Yield the versions that a requirements file settles, without their hashes."""
    for file in _included(path):
        for match in filter(None, map(_PIN.match, _lines(file))):
            yield f"{match['name']}{match['version']}{match['marker'] or ''}"


def _included(path: Path) -> Iterator[Path]:
    """Yield a requirements file and those that it includes, each once."""
    seen: set[Path] = set()
    waiting = [path]
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        yield file
        found = (match["path"] for match in map(_INCLUDED.match, _lines(file)) if match)
        waiting += [file.parent / name for name in found if "://" not in name]


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []


def _local(line: str, directory: Path) -> dict[str, str]:
    """Return the digests of what decides about a package on this machine: its archive, or what declares it."""
    match = _PLACE.match(line)
    place = match["place"].removeprefix("file://") if match else "-"
    if place.startswith("-") or "://" in place:
        return {}
    if not (match and match["editable"]) and not place.startswith(".") and "/" not in place:
        return {}  # the name of one that lies elsewhere
    path = directory / unquote(place)
    try:
        if path.is_dir():
            return {str(path / name): digest_file(path / name) for name in _DECIDING}
        status = path.stat()
    except (OSError, ValueError):  # nobody's to read, or no path at all
        return {str(path): "missing"}
    return {str(path): digest_text(f"{status.st_mtime_ns} {status.st_size}")}  # it may be huge
