"""Digests of a step's inputs, and the small JSON files in which steps record what they made."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_MISSING = "missing"


def digest(inputs: Mapping[str, str]) -> str:
    """Return one digest of named inputs, independent of their order."""
    text = json.dumps(sorted(inputs.items()), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_text(text: str) -> str:
    """Return the digest of a text."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def digest_file(path: Path) -> str:
    """Return the digest of a file's bytes; an unreadable file counts as missing, which is a valid state."""
    try:
        if not path.is_file():  # opening a pipe would wait for a writer
            return _MISSING
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return _MISSING


def read_record(path: Path) -> dict[str, Any]:
    """Return what `write_record` wrote; empty if the file is missing or damaged."""
    try:
        record = json.loads(path.read_bytes()) if path.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Replace a record atomically; it is synced to disk when this returns."""
    replace_file(path, json.dumps(record).encode(), 0o600, sync=True)


def replace_file(path: Path, content: bytes, mode: int, *, sync: bool = False) -> None:
    """Replace a file atomically: a reader sees the old file or the new one, never a part.

    The temporary file has the same name each time, so that crashes do not accumulate leftovers. The caller
    holds the volume's hydration lock, so no second writer uses that name.

    Parameters
    ----------
    path
        The file.
    content
        Its new content.
    mode
        Its permissions.
    sync
        Sync the file and its directory to disk. Without it, a crash of the machine may leave an empty file.
    """
    temporary = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)
    if sync:
        _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
