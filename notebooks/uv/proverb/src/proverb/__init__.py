"""One proverb."""

from __future__ import annotations


def proverb() -> str:
    """Return it."""
    return "Measure twice, cut once."
