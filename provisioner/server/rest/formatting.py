"""Sizes, durations, times and names in the form that users and clients read. Pure."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone


def size(count: int) -> str:
    """Return a number of bytes with its unit and at most three digits."""
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 999.5:
            return (
                f"{value:.0f} {unit}" if unit == "bytes" or value >= 99.5 else f"{value:.2g} {unit}"
            )
        value /= 1000
    return f"{value:.3g} TB"


def span(duration: timedelta) -> str:
    """Return a duration in its largest unit."""
    seconds = max(0, round(duration.total_seconds()))
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count = round(seconds / length)
        if seconds >= length:
            return f"{count} {unit}" + ("s" if count != 1 else "")
    return f"{seconds} second" + ("s" if seconds != 1 else "")


def timestamp(value: datetime | None) -> str | None:
    """Return a time as ISO 8601 in UTC, to the second."""
    if value is None:
        return None
    return value.astimezone(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")


def short_name(session: str) -> str:
    """Return a short form of a session for display: of a path the last part."""
    return os.path.basename(session.rstrip("/")) or session
