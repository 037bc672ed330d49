"""Finds the notebook of a kernel and reads the metadata that concerns its volume."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from provisioner.core.session import (
    NOTEBOOK_VARIABLE,
    Clues,
    caller_session,
    server_path,
    without_backing_suffix,
)

LOCAL_DRIVES = frozenset({"", "RTC"})
"""The contents drives that show the server's own files: the default one, and that of real-time collaboration."""

_LARGEST_NOTEBOOK = 512 * 1024 * 1024


def gather(
    kernel_id: str,
    env: Mapping[str, str],
    process_env: Mapping[str, str],
    volume_names: Collection[str],
) -> Clues:
    """Return the clues to the session of a kernel that starts with `env` in a process with `process_env`.

    `volume_names` are those of the volume that `env` lies in, if any (see `session.caller_session`). This reads the
    notebook, so it is called in a worker thread.
    """
    caller = caller_session(env, volume_names)
    if caller is not None:
        return Clues(kernel_id, caller=caller)
    notebook = locate(env, process_env)
    if notebook is None:
        return Clues(kernel_id)
    return Clues(kernel_id, metadata=volume_metadata(notebook).get("session"), notebook=notebook)


def locate(env: Mapping[str, str], process_env: Mapping[str, str]) -> str | None:
    """Return the canonical path of the kernel's notebook, `drive:path` for a remote one, None if there is none.

    The kernel of a console has a "path" too (`<root>/Console 1`), the same for every first console. It is not a
    file, so it names no session.
    """
    local = server_path(env, process_env)
    api_path = env.get(NOTEBOOK_VARIABLE, "")
    drive, colon, _ = api_path.partition(":")
    # Drives have no slash; a later colon belongs to the name of a file.
    if colon and "/" not in drive and drive not in LOCAL_DRIVES:
        return api_path
    if local is None:
        return None
    if not os.path.exists(local):
        local = without_backing_suffix(local)
    if not local.endswith(".ipynb") and not os.path.isfile(local):
        return None
    return canonical(local)


def canonical(path: str | os.PathLike[str]) -> str:
    """Return the one name of a notebook: absolute, without symbolic links, whether or not it exists yet."""
    try:
        return os.path.realpath(path)
    except ValueError:
        # A NUL or half a surrogate pair: no file can have that name, and `session.checked` refuses it.
        return os.fspath(path)


def volume_metadata(notebook: str) -> Mapping[str, Any]:
    """Return the mapping `metadata.volume` of a notebook; empty if it has none or cannot be read.

    A notebook that is missing, too large or not JSON still gets its kernel, as one without such metadata.
    """
    try:
        found = content_of(notebook, b'"volume"')["metadata"]["volume"]
    except (KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def content_of(notebook: str, marker: bytes) -> dict[str, Any]:
    """Return the parsed JSON of a notebook; empty if it cannot be read or does not contain `marker`."""
    try:
        path = Path(notebook)
        status = path.stat()
        # Reading a pipe with the name of a notebook would never end.
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST_NOTEBOOK:
            return {}
        content = path.read_bytes()
        # Parsing holds the interpreter lock, and most notebooks do not mention volumes.
        if marker not in content:
            return {}
        parsed = json.loads(content)
    except (OSError, ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}
