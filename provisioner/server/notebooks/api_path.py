"""Notebooks as the server's API names them, and their files and sessions. Pure, except that it resolves symbolic links.

An API path is relative to the server's root directory, has `/` as separator, and may begin with a contents drive:
`RTC:a/b.ipynb`.
"""

from __future__ import annotations

import os
import posixpath

from provisioner.settings.notebook import LOCAL_DRIVES, canonical


def of_session(path: str, name: str | None) -> str:
    """Return the notebook's API path, given the `path` and `name` of its session.

    JupyterLab starts a session under the path `<directory>/<uuid>` and passes the notebook's name separately.
    """
    if not name or path.endswith(".ipynb"):
        return path
    drive, local = split(path)
    return join(drive, posixpath.join(posixpath.dirname(local), posixpath.basename(name)))


def split(path: str) -> tuple[str, str]:
    """Return the drive (empty if there is none) and the path within it."""
    drive, separator, rest = path.partition(":")
    # A colon after a slash belongs to the name of a file.
    return (drive, rest) if separator and "/" not in drive else ("", path)


def join(drive: str, path: str) -> str:
    """Return the API path of a drive and a path within it."""
    return f"{drive}:{path}" if drive else path


def local_file(path: str, root: str) -> str | None:
    """Return the absolute path of the file at an API path; None on a remote drive."""
    drive, local = split(path)
    if drive not in LOCAL_DRIVES:
        return None
    parts = [part for part in local.split("/") if part]
    return os.path.join(os.path.abspath(root), *parts)


def moved(path: str, old: str, new: str) -> str:
    """Return an API path after the notebook or folder `old` was moved to `new`; the same if it is not concerned."""
    (drive, local), (old_drive, before) = split(path), split(old.strip("/"))
    new_drive, after = split(new.strip("/"))
    if drive != old_drive and not {drive, old_drive} <= LOCAL_DRIVES:
        return path
    if local != before and not local.startswith(before + "/"):
        return path
    return join(new_drive if drive == old_drive else drive, after + local[len(before) :])


def session_name(path: str, root: str) -> str:
    """Return the session of the notebook at an API path; of a folder, the common beginning of its sessions."""
    file = local_file(path, root)
    return path if file is None else canonical(file)


def to_api(session: str, top: str) -> str | None:
    """Return the API path of the notebook that has a session; None if it does not lie under the canonical `top`."""
    beginning = top.rstrip(os.sep) + os.sep
    if not session.startswith(beginning):
        return None
    return session[len(beginning) :].replace(os.sep, "/")
