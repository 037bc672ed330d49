"""Signals that a shell tells a background job to ignore."""

from __future__ import annotations

import signal


def take_back_signals() -> None:
    """Restore SIGINT, SIGHUP and SIGQUIT; otherwise every kernel would inherit that they are ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
