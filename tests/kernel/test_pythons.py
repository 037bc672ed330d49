"""Kernels of two Pythons in one volume: at once, as when JupyterLab changes a notebook's kernel, and later."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from provisioner.pool.pool import Pool
from tests.support.kernels import (
    REAL,
    ask,
    client_of,
    install,
    kernel,
    provisioner_of,
    require_free,
)
from tests.support.overlaid import our_site_packages, site_packages

FIND = "importlib.util.find_spec({!r}) is not None"


@pytest.fixture
def other(here: Pool, tmp_path: Path) -> Path:
    """The kernelspec `other`, whose Python is a virtual environment with a package of its own."""
    prefix = tmp_path / "other"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
    lines = (f"import site; site.addsitedir({path!r})\n" for path in our_site_packages())
    (prefix / site_packages() / "zz_tests.pth").write_text("".join(lines))
    (prefix / site_packages() / "otherside.py").touch()
    python = str(prefix / "bin" / "python")
    install("other", [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"], "python")
    return prefix


def child(client: BlockingKernelClient) -> list[object]:
    """Let a kernel start its own Python; return that process's prefix, and whether it can import `otherside`."""
    code = f"import importlib.util, sys; print([sys.prefix, {FIND.format('otherside')}])"
    asked = f"subprocess.check_output([sys.executable, '-c', {code!r}], text=True)"
    found = ask(client, f"eval({asked})", "import subprocess, sys")
    assert isinstance(found, list)
    return found


def test_kernels_of_two_pythons_in_one_volume_at_once_leave_each_others_alone(
    here: Pool, other: Path
) -> None:
    with kernel(REAL) as first, client_of(first) as one:
        before = child(one)
        assert before[1] is False
        with kernel("other") as second, client_of(second) as two:
            assert provisioner_of(second).volume == provisioner_of(first).volume
            assert child(two)[1] is True
            assert child(one) == before, "it still runs its own Python"
            assert ask(two, "sys.prefix", "import sys") == child(two)[0] != before[0]
        assert child(one) == before
    require_free(here)


def test_a_kernelspec_that_is_given_another_python_keeps_what_was_installed(
    here: Pool, other: Path, tmp_path: Path
) -> None:
    volume = here.acquire("a", "other", kernel="k")
    here.release(volume)
    python = other / "bin" / "python"
    with kernel("other") as manager, client_of(manager) as client:
        prefix = Path(ask(client, "sys.prefix", "import sys"))
    (prefix / site_packages() / "mine.py").touch()
    spec = next((tmp_path / "data").glob("kernels/other/kernel.json"))
    spec.write_text(spec.read_text().replace(str(python), sys.executable))
    with kernel("other") as manager, client_of(manager) as client:
        assert ask(client, FIND.format("otherside"), "import importlib.util") is False
        assert ask(client, FIND.format("mine"), "import importlib.util") is True
    assert python.exists()
