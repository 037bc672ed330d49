from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from provisioner import __version__
from provisioner.cli.app import COMMANDS
from tests.support.commands import COMMAND, Cli, make_volume


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["frobnicate"], ["show"], ["list", "--frob"], ["run"], ["list", "--VolumePool.root"],
        ["list", "--VolumePool.root.x=1"], ["list", "--VolumePool.=1"], ["sweep", "--every", "0"],
        ["sweep", "--every", "never"], ["run", "a", "-j", "0"], ["run", "a", "-j", "x"], ["run", "a", "--timeout", "0"],
        ["run", "a", "--startup-timeout", "soon"],
    ],
)  # fmt: skip
def test_a_wrong_command_line_shows_the_usage(cli: Cli, arguments: list[str]) -> None:
    called = cli(*arguments)

    assert called.code == 2
    assert called.err.startswith("usage: jupyter volumes")


def test_a_refusal_is_one_line_on_stderr_and_exit_code_1(cli: Cli) -> None:
    called = cli("show", "nobody's")

    assert called.out == ""
    assert called.refusal.startswith('jupyter volumes: No volume has the session "nobody\'s"')


def test_a_setting_on_the_command_line_applies(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JUPYTER_VOLUMES_ROOT")
    elsewhere = tmp_path / "elsewhere"

    for setting in ([f"--VolumePool.root={elsewhere}"], ["--VolumePool.root", elsewhere]):
        assert cli("list", *setting).out == f"No volumes yet under {elsewhere}.\n"


@pytest.mark.parametrize(
    ("setting", "said"),
    [("rot=x", "did you mean root?"), ("max_volumes=0", "max_volumes"), ("env=3", "env")],
)
def test_a_wrong_setting_on_the_command_line_is_named(cli: Cli, setting: str, said: str) -> None:
    called = cli("list", f"--VolumePool.{setting}")

    assert said in called.refusal


def test_a_session_that_begins_with_a_dash_can_be_named(cli: Cli) -> None:
    make_volume("-x")

    assert cli("path", "--", "-x").code == 0


def test_the_version_is_printed(cli: Cli) -> None:
    assert cli("--version").out == f"jupyter-volumes {__version__}\n"


def test_an_unsupported_platform_is_refused_in_one_line(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")

    called = cli("list")

    assert "WSL" in called.refusal


@pytest.mark.parametrize("command", ["list", "doctor"])
def test_an_error_of_the_system_names_its_path_and_another_command_as_advice(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    module = {"list": "commands.list", "doctor": "doctor.doctor"}[command]

    def fail(args: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "/some/file")

    monkeypatch.setattr(f"provisioner.cli.{module}.run", fail)
    called = cli(command)

    assert called.code == 1
    assert called.err.startswith("jupyter volumes: /some/file: No space left on device")
    assert ("doctor" in called.err) == (command != "doctor")


def test_every_command_has_a_help(cli: Cli) -> None:
    listed = cli("--help").out
    for command in COMMANDS:
        assert f"    {command.name}" in listed
        usage = f"usage: jupyter volumes {command.name}"
        assert cli(command.name, "--help").out.startswith(usage)


@pytest.mark.usefixtures("root")
def test_list_imports_neither_nbclient_nor_rich() -> None:
    make_volume("a")
    program = (
        "import sys; from provisioner.cli.app import run; run(['list']); "
        "print({'nbclient', 'rich', 'jupyter_client', 'nbformat'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.usefixtures("root")
def test_a_closed_pipe_is_no_error() -> None:
    make_volume("a")
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*COMMAND, "list"], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)

    assert done.returncode == 128 + 13
    assert done.stderr == b""


@pytest.mark.usefixtures("root")
def test_a_terminal_without_unicode_shows_any_session() -> None:
    make_volume("🦀 volume")
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*COMMAND, "list"], capture_output=True, env=env, check=True)

    assert rb"\U0001f980 volume" in done.stdout
