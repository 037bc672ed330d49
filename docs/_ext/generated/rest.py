"""The REST interface, from the OpenAPI document that the server offers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

import provisioner.server.rest as rest
from generated.tables import kind, properties

METHODS = ("get", "put", "post", "delete")


@cache
def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    text = Path(rest.__path__[0], "openapi.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def operations() -> str:
    """Return a section for each operation."""
    return "\n".join(
        _operation(f"{method.upper()} {path}", item[method])
        for path, item in document()["paths"].items()
        for method in METHODS
        if method in item
    )


def schemas() -> str:
    """Return a section for each object that answers hold."""
    described = []
    for name, schema in document()["components"]["schemas"].items():
        text = schema.get("description", "")
        table = properties(schema) if "properties" in schema else ""
        described.append("\n\n".join(part for part in (f"### {name}", text, table) if part))
    return "\n\n".join(described)


def refusals() -> str:
    """Return a table of the statuses with which operations are refused."""
    statuses = {
        (status, _resolved(answer)["description"])
        for item in document()["paths"].values()
        for method in METHODS
        for status, answer in item.get(method, {}).get("responses", {}).items()
        if not _succeeds(status)
    }
    rows = [f"| {status} | {meaning} |" for status, meaning in sorted(statuses)]
    return "\n".join(["| status | meaning |", "|---|---|", *rows])


def _operation(heading: str, operation: Mapping[str, Any]) -> str:
    parts = [f"### `{heading}`", operation["summary"], operation.get("description", "")]
    parts += _body(operation)
    answers = operation["responses"]
    parts += [
        f"**{status}**: {_content(_resolved(answer))}. {_resolved(answer)['description']}"
        for status, answer in answers.items()
        if _succeeds(status)
    ]
    refused = ", ".join(status for status in answers if not _succeeds(status))
    parts.append(f"[Refused](#refusals) with {refused}.")
    return "\n\n".join(part for part in parts if part) + "\n"


def _succeeds(status: str) -> bool:
    return status.startswith("2")


def _body(operation: Mapping[str, Any]) -> Iterator[str]:
    body = _resolved(operation.get("requestBody", {}))
    for content in body.get("content", {}).values():
        if "properties" in content["schema"]:
            yield "Request body:"
            yield properties(content["schema"])


def _content(answer: Mapping[str, Any]) -> str:
    return ", ".join(
        _array(content["schema"]) or kind(content["schema"])
        for content in answer["content"].values()
    )


def _array(schema: Mapping[str, Any]) -> str:
    """Return an object that only wraps a list as `{"name": [Item]}`."""
    for name, of in schema.get("properties", {}).items():
        return f'`{{"{name}": […]}}` of {kind(of["items"])}'
    return ""


def _resolved(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a reference points to, or the part itself."""
    if "$ref" not in part:
        return part
    found: Any = document()
    for name in part["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    resolved: Mapping[str, Any] = found
    return resolved
