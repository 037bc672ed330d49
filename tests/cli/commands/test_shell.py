from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from provisioner.pool.pool import Pool
from provisioner.settings.pool import load_settings
from tests.support.commands import (
    Cli,
    make_volume,
    start,
    wait_for,
    wait_until,
    write_kernelspec,
    write_notebook,
)

_TELL = """
import json, os, sys
print(json.dumps({"cwd": os.getcwd(), "prefix": sys.prefix, "env": dict(os.environ), "argv": sys.argv[1:]}))
"""


def test_a_command_runs_in_the_volume_with_its_environment(
    cli: Cli, configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = configuration / "jupyter_volumes_config.json"
    settings.write_text(json.dumps({"VolumePool": {"env": {"GREETING": "hello ${USER_NAME}"}}}))
    monkeypatch.setenv("USER_NAME", "ada")
    acquired = make_volume("mine")

    done = start("shell", "mine", "--", "python", "-c", _TELL, "--create", "x y")
    out, err = done.communicate(timeout=60)

    told = json.loads(out)
    assert done.returncode == 0, err
    assert told["cwd"] == str(acquired.path)
    assert Path(told["prefix"]).is_relative_to(acquired.path)
    assert told["argv"] == ["--create", "x y"]
    assert told["env"]["JUPYTER_VOLUME"] == str(acquired.path)
    assert told["env"]["JUPYTER_VOLUME_SESSION"] == "mine"
    assert told["env"]["GREETING"] == "hello ada"


def test_shell_without_a_command_runs_the_configured_shell(cli: Cli) -> None:
    acquired = make_volume("mine")

    called = cli("shell", "mine", "--VolumePool.shell=/bin/sh", "--VolumePool.shell_args=-c",
                 "--VolumePool.shell_args=touch made")  # fmt: skip

    assert called.code == 0
    assert (acquired.path / "made").exists()


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -9 $$"], 128 + 9),
        (["no-such-command"], 127),
        (["/etc/passwd"], 126),
    ],
)
def test_the_exit_code_is_that_of_the_command(cli: Cli, command: list[str], code: int) -> None:
    make_volume("mine")

    assert cli("shell", "mine", "--", *command).code == code
    assert cli("list", "--json").json[0]["state"] == "stopped"


def test_a_session_without_a_volume_gets_one_only_on_request(cli: Cli, tmp_path: Path) -> None:
    notebook = write_notebook(tmp_path / "a.ipynb")

    refused = cli("shell", notebook, "--", "true")
    made = cli("shell", notebook, "--create", "--", "true")

    assert refused.code == 1
    assert "No volume has the session" in refused.err
    assert made.code == 0
    assert [v["session"] for v in cli("list", "--json").json] == [str(notebook)]


def test_a_volume_is_not_made_for_a_kernelspec_that_gives_none(cli: Cli) -> None:
    for kernelspec in ("nope", "python3"):
        called = cli("shell", "new", "--create", "--kernelspec", kernelspec, "--", "true")

        assert f"kernelspec {kernelspec!r}" in called.refusal
    assert cli("list", "--json").json == []


def test_nobody_else_gets_the_volume_while_the_shell_runs(cli: Cli) -> None:
    acquired = make_volume("mine")
    process = start("shell", "mine", "--", "sh", "-c", "touch up; read line", stdin=subprocess.PIPE)
    wait_for(acquired.path / "up", process)

    refused = cli("shell", "mine", "--", "true")
    held = cli("list", "--json").json[0]
    process.communicate("done\n", timeout=30)

    assert refused.code == 1
    assert f"in use by shell sh of process {process.pid} on " in refused.err
    assert refused.err.count(str(process.pid)) == 1
    assert '"volume": {"session": "NAME"} in the notebook\'s metadata' in refused.err
    assert held["holder"]["purpose"] == "shell"
    assert cli("shell", "mine", "--", "true").code == 0


def test_children_that_outlive_the_shell_keep_the_volume(cli: Cli) -> None:
    acquired = make_volume("mine")
    script = "sleep 300 >/dev/null 2>&1 </dev/null & echo $! > pid"
    process = start("shell", "mine", "--", "sh", "-c", script)
    process.communicate(timeout=60)
    pid = int((acquired.path / "pid").read_text())

    held = cli("list", "--json").json[0]
    refused = cli("shell", "mine", "--", "true")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: cli("shell", "mine", "--", "true").code == 0)

    assert process.returncode == 0
    assert held["holder"]["processes"] == [pid]
    assert refused.code == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_a_request_to_end_reach_the_command(cli: Cli, number: signal.Signals) -> None:
    acquired = make_volume("mine")
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo ended; exit 5' {name}; touch up; while :; do sleep 0.05; done"
    process = start("shell", "mine", "--", "sh", "-c", script)
    wait_for(acquired.path / "up", process)

    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    out, err = process.communicate(timeout=30)

    assert (process.returncode, out, err) == (5, "ended\n", "")
    assert cli("list", "--json").json[0]["state"] == "stopped"


def test_bare_gets_into_a_volume_with_a_broken_environment(cli: Cli, kernels: Path) -> None:
    acquired = make_volume("mine", here="")
    fails = ["sh", "-c", "echo no such luck >&2; exit 3"]
    write_kernelspec(kernels / "broken", {"bootstrap_command": fails}, language="python")
    pool = Pool(load_settings())
    pool.release(pool.acquire("mine", "broken", kernel="a"))

    refused = cli("shell", "mine", "--", "true")
    entered = cli("shell", "mine", "--bare", "--", "test", "-e", "here")

    assert refused.code == 1
    assert "no such luck" in refused.err
    assert "--bare" in refused.err
    assert entered.code == 0
    assert acquired.path.is_dir()
