"""The command line: `jupyter volumes …`.

May import: every room but the other faces.
"""

from __future__ import annotations

from provisioner.cli.app import run as main

__all__ = ["main"]  # the entry point of the installed script
