"""Fixtures of other folders: the command line, a Nix and a package index."""

from __future__ import annotations

from tests.cli.conftest import cli
from tests.hydration.conftest import index, nix_session

__all__ = ["cli", "index", "nix_session"]
