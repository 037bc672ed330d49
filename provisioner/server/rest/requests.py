"""Reads the bodies of requests: small JSON objects with known fields, or one line that says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from provisioner.server.rest.refusals import BadRequest, BodyTooLarge

LARGEST_BODY = 64 * 1024
"""Bytes; the longest session name takes 4 kB, or 24 kB where each character is escaped."""


@dataclass(frozen=True)
class Field:
    """A field of a body: its type, and whether it must be there."""

    kind: type
    required: bool = False


def read_body(raw: bytes, fields: Mapping[str, Field]) -> dict[str, Any]:
    """Return the fields of a body; an empty body is an empty object.

    Raises
    ------
    BodyTooLarge, BadRequest
    """
    if len(raw) > LARGEST_BODY:
        raise BodyTooLarge(f"The body has {len(raw)} bytes; send at most {LARGEST_BODY}.")
    try:
        body = json.loads(raw) if raw.strip() else {}
    except (ValueError, RecursionError):
        raise BadRequest("The body is not JSON; send an object, or nothing.") from None
    if not isinstance(body, dict):
        raise BadRequest(f"The body is a JSON {_name(type(body))}; send an object.")
    for name in body:
        if name not in fields:
            known = " and ".join(sorted(fields)) or "none"
            raise BadRequest(f"The body has a field {name[:80]!r}; the fields are: {known}.")
    for name, field in fields.items():
        if name not in body and field.required:
            raise BadRequest(f"The body has no field {name!r}; give a {_name(field.kind)}.")
        # An exact comparison: to Python, true is an int as well.
        if name in body and type(body[name]) is not field.kind:
            raise BadRequest(
                f"The field {name!r} is a {_name(type(body[name]))}; give a {_name(field.kind)}."
            )
    return body


def _name(kind: type) -> str:
    names = {bool: "boolean", str: "string", dict: "object", list: "array", type(None): "null"}
    return names.get(kind, "number")
