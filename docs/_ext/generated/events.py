"""The events of the server, from their schemas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

import provisioner.server.telemetry as telemetry
from generated.tables import properties


def events() -> str:
    """Return a section for each schema."""
    directory = Path(telemetry.__path__[0], "schemas")
    return "\n".join(_section(path) for path in sorted(directory.glob("*.yaml"), reverse=True))


def _section(path: Path) -> str:
    schema: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return f"## {schema['title']}\n\n`{schema['$id']}`\n\n{schema['description']}\n\n{properties(schema)}"
