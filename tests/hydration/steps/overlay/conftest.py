"""Fixtures of the overlay's tests: one server's environment, made once."""

from __future__ import annotations

import ensurepip
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.overlaid import Server, Volume, our_site_packages, site_packages
from tests.support.wheels import BACKEND, make_sdist, make_wheel, unpack


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The only packages that the installers of these tests can find."""
    directory = tmp_path_factory.mktemp("wheels")
    for version in ("1.0", "2.0"):
        text = f'version = "{version}"\ndef main():\n    print("tool", version)\n'
        scripts = {"tool": "volumeside:main"}
        make_wheel(directory, "volumeside", version, {"volumeside.py": text}, scripts)
    for version in ("0.9", "2.0"):
        make_wheel(directory, "serverside", version, {"serverside.py": f'version = "{version}"\n'})
    make_wheel(directory, "nsvolume", "1.0", {"shared_ns/volume.py": ""})
    make_wheel(directory, "tinybackend", "1.0", {"tinybackend.py": BACKEND})
    make_sdist(directory)
    return directory


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Server:
    """A virtual environment with pip, its own packages, and the packages that these tests run with."""
    prefix = tmp_path_factory.mktemp("server") / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
    server = Server(prefix, wheels, tmp_path_factory.mktemp("home"))
    packages = prefix / site_packages()
    (pip,) = Path(ensurepip.__file__).parent.glob("*/pip-*.whl")
    zipfile.ZipFile(pip).extractall(packages)  # ensurepip would take five seconds for the same
    unpack(packages, "serverside", "1.0", {"serverside.py": 'version = "1.0"\n'})
    unpack(packages, "nsserver", "1.0", {"shared_ns/server.py": ""})
    source = prefix / "source"
    source.mkdir()
    (source / "editable.py").write_text("")
    (packages / "editable.pth").write_text(f"{source}\n")
    lines = (f"import site; site.addsitedir({path!r})\n" for path in our_site_packages())
    (packages / "zz_tests.pth").write_text("".join(lines))
    kernel = prefix / "share" / "jupyter" / "kernels" / "servers-own"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text('{"argv": ["true"], "display_name": "x", "language": "x"}')
    return server


@pytest.fixture
def volume(server: Server, tmp_path: Path) -> Volume:
    """A volume over the server's environment, not hydrated yet."""
    return Volume(tmp_path / "volume", server.launch())


@pytest.fixture
def untouched(server: Server) -> Iterator[None]:
    """Assert that a test changes nothing of the server's environment."""
    before = server.snapshot()
    yield
    assert server.snapshot() == before
