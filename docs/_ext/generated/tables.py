"""JSON schemas as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def properties(schema: Mapping[str, Any]) -> str:
    """Return a table of an object's properties."""
    required = schema.get("required", ())
    rows = [
        f"| `{name}` | {kind(of)}{'' if name in required else ', optional'} | {_meaning(of)} |"
        for name, of in schema["properties"].items()
    ]
    return "\n".join(["| field | type | meaning |", "|---|---|---|", *rows, ""])


def kind(schema: Mapping[str, Any]) -> str:
    """Return what a value is, in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "oneOf" in schema:
        return " or ".join(map(kind, schema["oneOf"]))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"array of {kind(schema['items'])}"
    types = schema["type"]
    return types if isinstance(types, str) else " or ".join(types)


def _meaning(schema: Mapping[str, Any]) -> str:
    parts = (str(schema.get(key, "")).strip().rstrip(".") for key in ("title", "description"))
    text = ". ".join(part for part in parts if part)
    return " ".join(text.split()).replace("|", "\\|")
