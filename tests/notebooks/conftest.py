"""The command line, a Nix and a package index, as the tests of these have them."""

from __future__ import annotations

from tests.cli.conftest import cli
from tests.hydration.conftest import index, nix_session

__all__ = ["cli", "index", "nix_session"]
