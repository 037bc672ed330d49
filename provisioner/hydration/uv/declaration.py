"""What is to be installed: a list of requirements, a file of them, or a project with its lock."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from provisioner.errors import ConfigError, HydrationFailed
from provisioner.hydration.records import digest_file, digest_text
from provisioner.hydration.uv.tool import Uv
from provisioner.logins import without_logins

_INCLUDED = re.compile(r"\s*(?:-r|-c|--requirements?|--constraints?)(?:\s+|=)(?P<path>[^#\s]+)")


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
        """Return the digests of the list, the file, and the files that it includes."""
        inputs = {"requirements": digest_text("\n".join(self.lines))}
        if self.file is not None:
            inputs |= {str(path): digest_file(path) for path in _included(volume / self.file)}
        return inputs

    def install(self, uv: Uv, python: Path, volume: Path, also: tuple[str, ...]) -> None:
        """Install all in one resolution."""
        arguments: tuple[str, ...] = ()
        directory = Path("/")  # uv reads configuration from here upwards; the volume's is not meant
        if self.file is not None:
            path = volume / self.file
            if not path.is_file():
                raise HydrationFailed(
                    f"the requirements file {path} does not exist: create it or correct the path"
                )
            arguments, directory = ("--requirements", str(path)), path.parent
        uv.install(python, (*arguments, "--", *self.lines, *also), directory)


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
        files = (directory / "pyproject.toml", directory / "uv.lock")
        return {str(path): digest_file(path) for path in files}

    def install(self, uv: Uv, python: Path, volume: Path, also: tuple[str, ...]) -> None:
        """Install what the lock says, then what is missing of the further requirements."""
        directory = self._directory(volume)
        if not (directory / "pyproject.toml").is_file():
            raise HydrationFailed(
                f"there is no pyproject.toml in {directory}: create it or correct the path"
            )
        uv.sync(python, directory, locked=(directory / "uv.lock").is_file())
        uv.install(python, ("--", *also), Path("/"))

    def _directory(self, volume: Path) -> Path:
        path = volume / self.path
        return path.parent if path.name == "pyproject.toml" else path


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
        if file.is_file():
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            found = (match["path"] for match in map(_INCLUDED.match, lines) if match)
            waiting += [file.parent / name for name in found if "://" not in name]
