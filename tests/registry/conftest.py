"""A table for the tests of the registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.registry.registry import Registry


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The table's file."""
    return tmp_path / "registry.sqlite3"


@pytest.fixture
def registry(path: Path) -> Iterator[Registry]:
    """A new table."""
    registry = Registry(path, create=True)
    yield registry
    registry.close()
