"""Durations as people write them: seconds, `30m`, `1h30m`, or `never`."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_WRITTEN = re.compile(r"(?:\d+(?:\.\d+)?[smhdw])+", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhdw])", re.ASCII)


def parse_duration(value: object) -> timedelta | None:
    """Return the duration that `value` stands for; None for "never".

    Parameters
    ----------
    value
        A number of seconds, a text such as `"90"`, `"30m"` or `"1h30m"` (s, m, h, d, w), `"never"`, None, or a
        timedelta.

    Raises
    ------
    ValueError
        For zero and less (which elsewhere means "never", "at once" or "the maximum"), and for anything else; the
        message is a clause that completes "… must be".
    """
    expected = 'a positive number of seconds, a duration such as "30m" or "1h30m", or "never"'
    if value is None or (isinstance(value, str) and value.strip().lower() == "never"):
        return None
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str):
        seconds = _written_seconds(value.strip().lower(), expected)
    else:
        raise ValueError(expected)
    if not 0 < seconds < float("inf"):
        raise ValueError(expected)
    try:
        return timedelta(seconds=seconds)
    except OverflowError:
        raise ValueError(expected) from None


def _written_seconds(text: str, expected: str) -> float:
    if _WRITTEN.fullmatch(text):
        return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    try:
        return float(text)
    except ValueError:
        raise ValueError(expected) from None


def format_duration(value: timedelta | None) -> str:
    """Return the shortest writing of a duration that `parse_duration` reads back to the second."""
    if value is None:
        return "never"
    seconds = round(value.total_seconds())
    if seconds < 60:
        return f"{seconds}s"
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
