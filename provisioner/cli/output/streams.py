"""The standard streams of a command, as other programs leave them to us: closed, full, or without Unicode."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def make_usable() -> None:
    """See to it that there are three streams, and that printing fails only where nothing can be written any more."""
    _open_closed()
    _never_fail_to_encode(sys.stdout)
    _never_fail_to_encode(sys.stderr)


def fault_of_output() -> OSError | None:
    """Return why what was printed cannot be written (a full disk, say); None if it is, or nothing is left of it."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return error
    return None


def forget_output() -> None:
    """Keep the interpreter from flushing into a pipe whose reader has gone (`… list | head`), or onto a full disk."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_closed() -> None:
    """Open what was closed (`>&-`): else a file of ours would get its number, and be taken for it by our children."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            os.set_inheritable(null, True)
            setattr(sys, name, os.fdopen(null, mode, encoding="utf-8"))


def _never_fail_to_encode(stream: TextIO) -> None:
    """Let a terminal without Unicode show an emoji's number rather than a traceback."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
