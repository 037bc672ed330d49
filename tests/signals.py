"""Signals that this process was started to ignore, as a job in the background is."""

from __future__ import annotations

import signal


def take_back_signals() -> None:
    """Take SIGINT and SIGHUP again: every kernel would inherit that they are ignored, and could not be interrupted."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
