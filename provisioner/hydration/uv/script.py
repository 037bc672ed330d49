"""What a notebook declares of itself: the PEP 723 block in its first code cell that has one."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from provisioner.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# The regular expression of PEP 723, "Reference Implementation".
_BLOCK = re.compile(
    r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)[ \t]*\r?$\s(?P<content>(^#(| .*)$\s)+)^# ///[ \t]*\r?$"
)


@dataclass(frozen=True)
class InlineScript:
    """A PEP 723 block.

    Parameters
    ----------
    dependencies
        Requirements as pip understands them.
    requires_python
        A version specifier, or None.
    """

    dependencies: tuple[str, ...]
    requires_python: str | None = None


def inline_script(notebook: Mapping[str, Any]) -> InlineScript | None:
    """Return the block of the first code cell that has one, or None if there is none.

    Whether a notebook may declare its requirements at all is for the caller to decide.

    Parameters
    ----------
    notebook
        A notebook as nbformat 4 or plain JSON has it.

    Raises
    ------
    ConfigError
        The block cannot be read, or declares more than requirements: a `[tool.uv]` table could name
        package indexes and paths, and those are not a notebook's to choose.
    """
    for cell in notebook.get("cells", []):
        if cell.get("cell_type") == "code":
            source = cell.get("source", "")
            text = source if isinstance(source, str) else "".join(source)
            if (block := _block(text)) is not None:
                return _read(block)
    return None


def _block(source: str) -> str | None:
    found = [m for m in _BLOCK.finditer(source) if m["type"] == "script"]
    if len(found) > 1:
        raise ConfigError("the notebook's cell has two script blocks (PEP 723): keep one of them")
    if not found:
        return None
    lines = found[0]["content"].splitlines()
    return "\n".join(line[2:] if line.startswith("# ") else line[1:] for line in lines)


def _read(block: str) -> InlineScript:
    try:
        table = tomllib.loads(block)
    except tomllib.TOMLDecodeError as error:
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
    if table.get("tool", {}).get("uv"):
        raise ConfigError(
            "the notebook's script block has a [tool.uv] table, which a notebook may not set: "
            "remove it, and ask the administrator for other package indexes"
        )
    return InlineScript(tuple(dependencies), requires_python)
