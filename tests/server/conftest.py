"""One server with the default settings for all tests of this folder that need no other, and homes for those that do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.serving import Place, Server, served


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A home of its own, with a root of volumes, for the servers that a test starts."""
    return Place(tmp_path / "home")


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that tests share: each uses names of its own for notebooks and kernelspecs."""
    with served(Place(tmp_path_factory.mktemp("server") / "home")) as server:
        yield server
