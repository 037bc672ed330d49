"""Real kernels in an overlay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.overlaid import Kernel, Server, Volume


@pytest.fixture(scope="module")
def running(
    server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Volume, Kernel]]:
    """A kernel that the tests of this file share; they run in the order in which they are written."""
    before = server.snapshot()
    volume = Volume(tmp_path_factory.mktemp("running") / "volume", server.launch()).hydrate()
    with volume.kernel(tmp_path_factory.mktemp("spec")) as kernel:
        yield volume, kernel
    assert server.snapshot() == before


def test_a_kernel_runs_in_its_volume(running: tuple[Volume, Kernel]) -> None:
    volume, kernel = running
    printed = kernel.run(
        "import sys, serverside; print(sys.prefix, sys.executable, serverside.version)"
    )
    assert printed == f"{volume.root} {volume.root}/bin/python 1.0\n"


def test_ipython_prints_no_warning_about_the_environment(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    volume = Volume(tmp_path / "volume", server.launch()).hydrate()
    with volume.kernel(tmp_path / "spec") as kernel:
        kernel.run("1")
    assert "virtualenv" not in "".join(capfd.readouterr())


def test_a_package_installed_in_a_cell_can_be_imported_in_the_next(
    running: tuple[Volume, Kernel],
) -> None:
    volume, kernel = running
    assert "Successfully installed" in kernel.run("%pip install volumeside==1.0")
    printed = kernel.run("import volumeside; print(volumeside.__file__)")
    assert printed == f"{volume.packages}/volumeside.py\n"


def test_its_console_script_and_pip_are_on_the_path(running: tuple[Volume, Kernel]) -> None:
    _, kernel = running
    assert kernel.run("!tool").strip() == "tool 1.0"
    kernel.run("!pip install -q -U volumeside")
    assert kernel.run("!tool").strip() == "tool 2.0"


def test_a_process_of_the_kernel_sees_the_same_packages(running: tuple[Volume, Kernel]) -> None:
    _, kernel = running
    code = (
        "import subprocess; print(subprocess.check_output([sys.executable, '-c', {!r}]).decode())"
    )
    inner = "import volumeside, serverside; print(volumeside.version, serverside.version)"
    assert kernel.run(code.format(inner)).split() == ["2.0", "1.0"]


def test_the_conda_magic_refuses_to_change_the_servers_environment(
    running: tuple[Volume, Kernel],
) -> None:
    _, kernel = running
    code = (
        "try:\n    get_ipython().run_line_magic('conda', 'list')\nexcept Exception as e: print(e)"
    )
    assert "%pip" in kernel.run(code)


def test_an_uninstalled_package_is_gone(running: tuple[Volume, Kernel]) -> None:
    volume, kernel = running
    kernel.run("%pip uninstall -y volumeside")
    assert not (volume.packages / "volumeside.py").exists()
    assert not (volume.root / "bin" / "tool").exists()
    assert "outside environment" in kernel.run("%pip uninstall -y serverside")


def test_the_debugger_attaches(running: tuple[Volume, Kernel]) -> None:
    _, kernel = running
    requests: dict[str, dict[str, str]] = {
        "initialize": {"clientID": "tests", "adapterID": ""},
        "attach": {},
        "disconnect": {},
    }
    for number, (command, arguments) in enumerate(requests.items(), start=1):
        message = kernel.client.session.msg(
            "debug_request",
            {"type": "request", "seq": number, "command": command, "arguments": arguments},
        )
        kernel.client.control_channel.send(message)
        reply = kernel.client.control_channel.get_msg(timeout=30)
        assert reply["content"]["success"], reply


def test_packages_outlive_the_kernel(server: Server, tmp_path: Path, untouched: None) -> None:
    volume = Volume(tmp_path / "one", server.launch()).hydrate()
    with volume.kernel(tmp_path / "spec") as kernel:
        kernel.run("%pip install -q volumeside==1.0")
    assert volume.intact()
    with volume.kernel(tmp_path / "spec") as kernel:
        assert kernel.run("import volumeside; print(volumeside.version)") == "1.0\n"
