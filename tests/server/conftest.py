"""Servers for the tests of this folder: started when first asked for, stopped at the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.serving import Place, Server, served


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A home of its own, with a root of volumes, for servers that a test starts."""
    return Place(tmp_path / "home")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests of a module."""
    with served(Place(tmp_path_factory.mktemp("server") / "home")) as server:
        yield server
