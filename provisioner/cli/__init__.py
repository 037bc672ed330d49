"""`jupyter volumes …`."""

from __future__ import annotations


def main() -> int:
    """Run the command line."""
    from .app import run

    return run()
