"""Deletes files and trees of any depth and mode, without following a link."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from provisioner.system.descent import OPEN, Descent


def remove(path: Path) -> None:
    """Delete a file, a link, or a directory with its content.

    What cannot be deleted, or is being deleted by another process, stays without an error; the next sweep tries again.
    This is not atomic: the caller first renames what others may look for.
    """
    with contextlib.suppress(OSError):
        if stat.S_ISDIR(path.lstat().st_mode):
            remove_tree(path)
        else:
            path.unlink()


def remove_tree(top: Path) -> None:
    """Delete a directory with its content; does nothing if it does not exist.

    ``shutil.rmtree`` fails in read-only directories and in trees deeper than Python's stack.

    Raises `OSError` if something cannot be deleted, such as a file of another user.
    """
    try:
        mode = top.lstat().st_mode
        if stat.S_ISDIR(mode) and mode & stat.S_IRWXU != stat.S_IRWXU:
            top.chmod(0o700)
        root = os.open(top, OPEN)
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
    """Delete all but the directories; make these writable, and return their names."""
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
