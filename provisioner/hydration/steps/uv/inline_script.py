"""Reads the packages that a notebook declares: the PEP 723 block in the first code cell that has one."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from provisioner.core.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_LINE_END = re.compile(r"\r\n|\n|\r")
_OPENING = re.compile(r"# /// [a-zA-Z0-9-]+[ \t]*")
_CLOSING = re.compile(r"# ///[ \t]*")


@dataclass(frozen=True)
class InlineScript:
    """A PEP 723 block: requirements as pip understands them, and a version specifier or None."""

    dependencies: tuple[str, ...]
    requires_python: str | None = None


def inline_script(notebook: Mapping[str, Any]) -> InlineScript | None:
    """Return the block of the first code cell that has one, or None; the caller decides whether it counts.

    Raises
    ------
    ConfigError
        The block cannot be read, or declares more than requirements: a `[tool.uv]` table could name
        package indexes and paths, which a notebook must not choose.
    """
    for source in _code(notebook):
        if (block := _block(source)) is not None:
            return _read(block)
    return None


def _code(notebook: Mapping[str, Any]) -> Iterator[str]:
    """Yield the source of each code cell; skip what is no cell or has no text."""
    cells = notebook.get("cells")
    for cell in cells if isinstance(cells, list) else ():
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            source = cell.get("source", "")
            if isinstance(source, list) and all(isinstance(line, str) for line in source):
                source = "".join(source)
            if isinstance(source, str):
                yield source


def _block(source: str) -> str | None:
    """Return the script block of a source, without the comment marks.

    A block reaches from the first opening to the last closing mark of lines of comment, with a line between them.
    The regular expression by which PEP 723 says so takes minutes for a cell with ten thousand opening lines, and
    blocks the whole server meanwhile.
    """
    found = []
    for _, run in groupby(_LINE_END.split(source), _is_comment):
        lines = list(run)
        openings = [n for n, line in enumerate(lines) if _OPENING.fullmatch(line)]
        closings = [n for n, line in enumerate(lines) if _CLOSING.fullmatch(line)]
        if not openings or not closings or closings[-1] <= openings[0] + 1:
            continue
        if lines[openings[0]].split() == ["#", "///", "script"]:
            content = lines[openings[0] + 1 : closings[-1]]
            found.append("\n".join(line[2:] for line in content))
    if len(found) > 1:
        raise ConfigError("the notebook's cell has two script blocks (PEP 723): keep one of them")
    return found[0] if found else None


def _is_comment(line: str) -> bool:
    return line == "#" or line.startswith("# ")


def _read(block: str) -> InlineScript:
    try:
        table = tomllib.loads(block)
    except (ValueError, RecursionError) as error:
        # A number with too many digits raises a plain ValueError.
        raise ConfigError(
            f"the notebook's script block is not TOML ({error}): correct it"
        ) from error
    dependencies = table.get("dependencies", [])
    requires_python = table.get("requires-python")
    if (
        not isinstance(dependencies, list)
        or not all(isinstance(line, str) for line in dependencies)
        or not isinstance(requires_python, str | None)
    ):
        raise ConfigError(
            "the notebook's script block needs dependencies as a list of strings "
            "and requires-python as a string: correct it"
        )
    tool = table.get("tool")
    if isinstance(tool, dict) and tool.get("uv"):
        raise ConfigError(
            "the notebook's script block has a [tool.uv] table, which a notebook may not set: "
            "remove it, and ask the administrator for other package indexes"
        )
    return InlineScript(tuple(dependencies), requires_python)
