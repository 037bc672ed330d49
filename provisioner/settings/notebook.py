"""What a notebook on disk says of its session: where it really lies and what its metadata asks for."""

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
"""Contents drives that show the server's own files: the default one, and that of real-time collaboration."""

_LARGEST_NOTEBOOK = 512 * 1024 * 1024


def gather(
    kernel_id: str,
    env: Mapping[str, str],
    process_env: Mapping[str, str],
    volume_names: Collection[str],
) -> Clues:
    """Return what is known of a kernel at its start; reads the notebook file, so call it in a thread.

    Parameters
    ----------
    kernel_id
        The kernel's id.
    env
        The environment given for the kernel.
    process_env
        The environment of this process.
    volume_names
        The names of the volume that `env` lies in, if any (see `session.caller_session`).
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

    A console's kernel has a "path" too (`<root>/Console 1`), the same for every first console ever opened. It is
    no file, so it names no session.
    """
    local = server_path(env, process_env)
    told = env.get(NOTEBOOK_VARIABLE, "")
    drive, colon, _ = told.partition(":")
    # A colon further on belongs to a file's name: drives have no slash.
    if colon and "/" not in drive and drive not in LOCAL_DRIVES:
        return told
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
        # A NUL or half a character: no file can bear that name, and `session.checked` says so.
        return os.fspath(path)


def volume_metadata(notebook: str) -> Mapping[str, Any]:
    """Return the mapping `metadata.volume` of a notebook; empty where there is none or it cannot be read.

    A notebook that is not JSON, or too large, or gone, still gets its kernel: its metadata asks for nothing.
    """
    try:
        found = content_of(notebook, b'"volume"')["metadata"]["volume"]
    except (KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def content_of(notebook: str, marker: bytes) -> dict[str, Any]:
    """Return a notebook as JSON has it; empty if it cannot be read or does not contain `marker`."""
    try:
        path = Path(notebook)
        status = path.stat()
        # Reading a pipe that bears a notebook's name would never end.
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST_NOTEBOOK:
            return {}
        content = path.read_bytes()
        # Parsing holds the interpreter lock, and most notebooks never mention volumes.
        if marker not in content:
            return {}
        parsed = json.loads(content)
    except (OSError, ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}
