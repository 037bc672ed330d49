"""The command line: `jupyter volumes …`.

May import: every room but the other faces.
"""

from __future__ import annotations


def main() -> int:
    """Run the command line."""
    from provisioner.cli.app import run

    return run()
