"""The standard streams of a command, which may be closed, full, or without Unicode."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def make_usable() -> None:
    """Open the streams that are closed, and let printing fail only where nothing can be written."""
    _open_closed()
    _never_fail_to_encode(sys.stdout)
    _never_fail_to_encode(sys.stderr)


def fault_of_output() -> OSError | None:
    """Return why the printed output cannot be written, such as a full disk; None if it was, or if none is left."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return error
    return None


def forget_output() -> None:
    """Discard further output: the interpreter must not flush to a closed pipe (`… list | head`) or a full disk."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_closed() -> None:
    """Open closed streams (`>&-`): else a file of ours gets the number, and our children use it as their stream."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
            os.set_inheritable(null, True)
            setattr(sys, name, os.fdopen(null, mode, encoding="utf-8"))


def _never_fail_to_encode(stream: TextIO) -> None:
    """Let a terminal without Unicode show the number of an emoji, not a traceback."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
