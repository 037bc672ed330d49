"""Digests of a step's inputs, and the small JSON files in which steps record what they made."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from provisioner.system.files import replace_file


def digest(inputs: Mapping[str, str]) -> str:
    """Return one digest of named inputs, independent of their order."""
    text = json.dumps(sorted(inputs.items()), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_text(text: str) -> str:
    """Return the digest of a text."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def digest_file(path: Path) -> str:
    """Return the digest of a file's bytes; an unreadable file counts as missing, which is a valid state."""
    with contextlib.suppress(OSError):
        if path.is_file():  # opening a pipe would wait for a writer
            return hashlib.sha256(path.read_bytes()).hexdigest()
    return "missing"


def read_record(path: Path) -> dict[str, Any]:
    """Return what `write_record` wrote; empty if the file is missing or damaged."""
    try:
        record = json.loads(path.read_bytes()) if path.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Replace a record atomically; it is synced to disk when this returns."""
    replace_file(path, json.dumps(record).encode(), durable=True)
