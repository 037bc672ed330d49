"""Notebooks as the server's API names them, and what they are called elsewhere. Pure but for symbolic links.

An API path is relative to the server's root directory, with `/`, and may begin with a contents drive: `RTC:a/b.ipynb`.
"""

from __future__ import annotations

import os
import posixpath

from provisioner.settings.notebook import LOCAL_DRIVES, canonical


def of_session(path: str, name: str | None) -> str:
    """Return the notebook's API path, given the `path` and `name` of its session.

    JupyterLab starts a session under `<directory>/<uuid>` and gives the notebook's name apart from it.
    """
    if not name or path.endswith(".ipynb"):
        return path
    drive, local = split(path)
    directory = posixpath.dirname(local)
    return join(drive, posixpath.join(directory, posixpath.basename(name)))


def split(path: str) -> tuple[str, str]:
    """Return the drive (empty if there is none) and the path within it."""
    drive, separator, rest = path.partition(":")
    # A colon further on belongs to a file's name: drives have no slash.
    return (drive, rest) if separator and "/" not in drive else ("", path)


def join(drive: str, path: str) -> str:
    """Return the API path of a drive and a path within it."""
    return f"{drive}:{path}" if drive else path


def local_file(path: str, root: str) -> str | None:
    """Return the file that an API path stands for, absolute; None for one of a remote drive."""
    drive, local = split(path)
    if drive not in LOCAL_DRIVES:
        return None
    parts = [part for part in local.split("/") if part]
    return os.path.join(os.path.abspath(root), *parts)


def moved(path: str, old: str, new: str) -> str:
    """Return what the API path is after `old`, which is itself or a folder above it or neither, was moved to `new`."""
    (drive, local), (old_drive, before) = split(path), split(old.strip("/"))
    new_drive, after = split(new.strip("/"))
    if drive != old_drive and not {drive, old_drive} <= LOCAL_DRIVES:
        return path
    if local != before and not local.startswith(before + "/"):
        return path
    return join(new_drive if drive == old_drive else drive, after + local[len(before) :])


def session_name(path: str, root: str) -> str:
    """Return the session of the notebook (or the beginning of those in a folder) that has this API path."""
    file = local_file(path, root)
    return path if file is None else canonical(file)


def to_api(session: str, top: str) -> str | None:
    """Return the API path of the notebook whose session this is; None if it does not lie under `top`.

    Parameters
    ----------
    session
        The session.
    top
        The server's root directory, canonical (`notebook.canonical`).
    """
    beginning = top.rstrip(os.sep) + os.sep
    if not session.startswith(beginning):
        return None
    return session[len(beginning) :].replace(os.sep, "/")
