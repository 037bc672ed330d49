"""Types for argparse: whole numbers and durations."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import timedelta

from provisioner.core.duration import parse_duration


def whole_number(least: int) -> Callable[[str], int]:
    """Return a type that accepts a whole number, `least` or more."""

    def read(text: str) -> int:
        if not text.isascii() or not text.isdecimal() or len(text) > 18 or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from {least}")
        return int(text)

    return read


def duration(text: str) -> timedelta | None:
    """Convert a duration such as `90` or `30m`; None for `never`."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} must be {error}") from None
