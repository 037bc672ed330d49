"""Another project's test suite: where it comes from and what it needs to run."""

from __future__ import annotations

import shutil
import site
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True)
class Suite:
    """The tests of an installed distribution.

    Parameters
    ----------
    distribution
        Whose tests; its source distribution has them.
    options
        What its tests need from pytest. Plugins are named here because none is loaded by itself: these suites turn
        warnings into errors, and a plugin that they do not know of may warn.
    """

    distribution: str
    options: tuple[str, ...]

    @property
    def version(self) -> str:
        """The version that is installed, and whose tests are run."""
        return version(self.distribution)

    @property
    def requirement(self) -> str:
        """What pip must install to run the tests."""
        return f"{self.distribution}[test]=={self.version}"


RUNNERS = ("pytest-timeout", "pytest-xdist")
"""The requirements for running any suite, besides its own."""

SUITES = (
    Suite("jupyter_client", ("-p", "pytest_timeout")),
    Suite(
        "nbclient",
        (
            # The suite sets no timeout, and a broken kernel often shows as a test that hangs.
            *("-p", "pytest_timeout", "--timeout=100"),
            *("-p", "pytest_asyncio.plugin"),
            *("-p", "flaky.flaky_pytest_plugin"),
            *("-o", "asyncio_default_fixture_loop_scope=function"),
        ),
    ),
)


def fetch(suite: Suite, into: Path) -> Path:
    """Download a suite's source distribution through pip's configured index; return the unpacked directory."""
    into.mkdir()
    name = suite.distribution
    pip(
        "download",
        *("--quiet", "--no-deps", "--no-binary", name),
        *("--dest", str(into), f"{name}=={suite.version}"),
    )
    (archive,) = into.iterdir()
    shutil.unpack_archive(archive, into)
    (source,) = (path for path in into.iterdir() if path.is_dir())
    return source


def make_environment(directory: Path, requirements: Sequence[str]) -> Path:
    """Make an environment that has all of this one and the given requirements; return its interpreter.

    This environment stays as it is, and what it has is what gets tested: only what is missing is installed.
    """
    venv.create(directory, symlinks=True)
    python = directory / "bin" / "python"
    packages = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    # addsitedir, unlike a plain path, also follows the .pth files of editable installations.
    lines = [f"import site; site.addsitedir({path!r})\n" for path in _package_directories()]
    Path(packages, "launching_environment.pth").write_text("".join(lines), encoding="utf-8")
    pip("--python", str(python), "install", "--quiet", *requirements)
    return python


def scripts() -> str:
    """Return the directory of this environment's console scripts."""
    return sysconfig.get_path("scripts")


def pip(*arguments: str) -> None:
    """Run this environment's pip, which prints its own errors."""
    subprocess.run([sys.executable, "-m", "pip", *arguments], check=True, stdin=subprocess.DEVNULL)


def _package_directories() -> list[str]:
    known = {*site.getsitepackages(), site.getusersitepackages()}
    return [path for path in sys.path if path in known]
