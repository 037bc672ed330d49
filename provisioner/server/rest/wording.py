"""Sizes and lengths of time as people read them. Pure."""

from __future__ import annotations

from datetime import timedelta


def size(count: int) -> str:
    """Return a number of bytes as people read it: three digits at most."""
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 999.5:
            return (
                f"{value:.0f} {unit}" if unit == "bytes" or value >= 99.5 else f"{value:.2g} {unit}"
            )
        value /= 1000
    return f"{value:.3g} TB"


def span(duration: timedelta) -> str:
    """Return a length of time as people read it, in its largest unit."""
    seconds = max(0, round(duration.total_seconds()))
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count = round(seconds / length)
        if seconds >= length:
            return f"{count} {unit}" + ("s" if count != 1 else "")
    return f"{seconds} second" + ("s" if seconds != 1 else "")
