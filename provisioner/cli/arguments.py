"""Arguments that several commands have, and types for argparse: whole numbers and durations."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import timedelta

from provisioner.core.duration import parse_duration


def add_session_argument(parser: argparse.ArgumentParser) -> None:
    """Declare the argument SESSION."""
    parser.add_argument(
        "session",
        metavar="SESSION",
        help="the session's name, a former name, the volume's id, or the path of its notebook",
    )


def add_switch(parser: argparse._ActionsContainer, flag: str, text: str) -> None:
    """Declare a flag without a value, which is False if it is not given."""
    parser.add_argument(flag, action="store_true", help=text)


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
