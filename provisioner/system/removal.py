"""Deletes what is to go, whatever its depth and modes, without following a link."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from provisioner.system.descent import Descent

_TOP = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove(path: Path) -> None:
    """Delete a file, a link, or a directory with all in it.

    What cannot be deleted now, or is being deleted by another process, stays without an error: whoever comes by the
    next time meets it again. It is not atomic; what somebody may look for goes under another name first.
    """
    with contextlib.suppress(OSError):
        if stat.S_ISDIR(path.lstat().st_mode):
            remove_tree(path)
        else:
            path.unlink()


def remove_tree(top: Path) -> None:
    """Delete a directory and all in it; nothing happens if it does not exist.

    ``shutil.rmtree`` fails in read-only directories and in trees deeper than Python's stack.

    Raises
    ------
    OSError
        If something cannot be deleted, such as a file of another user.
    """
    try:
        if _is_locked(top):
            top.chmod(0o700)
        root = os.open(top, _TOP)
    except FileNotFoundError:
        return
    try:
        with Descent(root) as descent:
            _empty(descent)
    finally:
        os.close(root)
    top.rmdir()


def _empty(descent: Descent) -> None:
    waiting = [(b"", False)]
    while waiting:
        path, emptied = waiting.pop()
        if emptied:
            parent, _, name = path.rpartition(b"/")
            os.rmdir(name, dir_fd=descent.open(parent))
            continue
        if path:
            waiting.append((path, True))
        directory = descent.open(path)
        prefix = path + b"/" if path else b""
        waiting.extend((prefix + child, False) for child in _unlink_files(directory))


def _unlink_files(directory: int) -> list[bytes]:
    """Delete what is no directory; unlock and return the names of what is one."""
    if not os.fstat(directory).st_mode & stat.S_IWUSR:
        os.fchmod(directory, 0o700)
    children = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                children.append(os.fsencode(entry.name))
            else:
                os.unlink(entry.name, dir_fd=directory)
    for child in children:
        mode = os.stat(child, dir_fd=directory, follow_symlinks=False).st_mode
        if mode & stat.S_IRWXU != stat.S_IRWXU:
            os.chmod(child, 0o700, dir_fd=directory)
    return children


def _is_locked(top: Path) -> bool:
    mode = top.lstat().st_mode
    return stat.S_ISDIR(mode) and mode & stat.S_IRWXU != stat.S_IRWXU
