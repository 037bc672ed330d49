"""Fixtures: a real Nix with its own store, and a real uv with the machine's package index."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from provisioner.hydration.step import Launch, Place
from provisioner.hydration.steps.third_party import _factory
from provisioner.system.removal import remove
from tests.support.example_package import install_example
from tests.support.nix_store import NixStore, make_store
from tests.support.starts import make_place, plain_environment
from tests.support.tools import require


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A new volume."""
    return make_place(tmp_path / "volume")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A server's environment, including a token."""
    home = tmp_path / "home"
    home.mkdir()
    return {**plain_environment(), "HOME": str(home), "JUPYTERHUB_API_TOKEN": "hush-hush"}


@pytest.fixture
def launch(environment: dict[str, str]) -> Launch:
    """The launch that jupyter_client makes of the usual kernel.json: the server's own interpreter."""
    return Launch(
        (sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"), environment
    )


@pytest.fixture(scope="session")
def nix_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NixStore]:
    """One offline store for the whole test session, separate from the machine's own."""
    require("nix", "install the package nix-bin")
    root = tmp_path_factory.mktemp("nix")
    yield make_store(root)
    remove(root)


@pytest.fixture
def nix(nix_session: NixStore, launch: Launch) -> tuple[NixStore, Launch]:
    """The store, and a launch whose environment leads to it."""
    return nix_session, Launch(launch.argv, {**launch.env, **nix_session.env})


@pytest.fixture(scope="session")
def index() -> Mapping[str, str]:
    """Settings with which uv asks the package index that pip is configured for."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    pip = dict(line.partition("=")[::2] for line in listing.splitlines())
    settings = {"UV_INSECURE_HOST": "", "UV_INDEX_STRATEGY": "unsafe-best-match"}
    for option, ours in (
        ("index-url", "UV_DEFAULT_INDEX"),
        ("extra-index-url", "UV_INDEX"),
        ("find-links", "UV_FIND_LINKS"),
    ):
        for scope in (f":env:.{option}", f"install.{option}", f"global.{option}"):
            if value := pip.get(scope, "").strip("'"):
                settings.setdefault(ours, value)
    return {name: value for name, value in settings.items() if value}


@pytest.fixture(scope="session")
def uv_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for the whole test session, so that each package is fetched once."""
    return tmp_path_factory.mktemp("uv-cache")


@pytest.fixture
def uv_launch(launch: Launch, index: Mapping[str, str]) -> Launch:
    """A launch whose environment lets uv find packages."""
    return Launch(launch.argv, {**launch.env, **index, "PATH": os.environ["PATH"]})


@pytest.fixture
def example_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package of another author that adds hydration options."""
    install_example(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    _factory.cache_clear()
    yield
    _factory.cache_clear()
    sys.modules.pop("example_data", None)
