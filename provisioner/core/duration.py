"""Durations as people write them: seconds, `30m`, `1h30m`, or `never`."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_WRITTEN = re.compile(r"(?:\d+(?:\.\d+)?[smhdw])+", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhdw])", re.ASCII)

EXPECTED = 'a positive number of seconds, a duration such as "30m" or "1h30m" (a century at most), or "never"'
"""The accepted values, as a clause that completes "… must be"."""

_LONGEST = timedelta(days=36525)
"""A century: a date plus a duration must still be a date."""


def parse_duration(value: object) -> timedelta | None:
    """Return the duration that `value` stands for; None for "never".

    The value is a number of seconds, a text such as `"90"`, `"30m"` or `"1h30m"` (s, m, h, d, w), `"never"`, None, or a
    timedelta.

    Raises `ValueError` for zero and less (which elsewhere means "never", "at once" or "the maximum"), for more than a
    century, and for anything else; the message is `EXPECTED`.
    """
    if value is None or (isinstance(value, str) and value.strip().lower() == "never"):
        return None
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = value
    elif isinstance(value, str):
        seconds = _written_seconds(value.strip().lower())
    else:
        raise ValueError(EXPECTED)
    if not 0 < seconds <= _LONGEST.total_seconds():
        raise ValueError(EXPECTED)
    return timedelta(seconds=seconds) or timedelta.resolution


def _written_seconds(text: str) -> float:
    if _WRITTEN.fullmatch(text):
        return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    try:
        return float(text)
    except ValueError:
        raise ValueError(EXPECTED) from None


def format_duration(value: timedelta | None) -> str:
    """Return a duration in its shortest form. `parse_duration` reads it back rounded to seconds, or exact below one."""
    if value is None:
        return "never"
    if value < timedelta(seconds=1):
        return f"{value.total_seconds():.6f}".rstrip("0") + "s"
    seconds = round(value.total_seconds())
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
