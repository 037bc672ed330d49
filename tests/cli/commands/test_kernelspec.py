from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager
from nbformat import from_dict

from provisioner.cli.batch.plan import kernel_for
from provisioner.core.errors import ConfigError
from provisioner.settings.options import KernelOptions
from tests.support.commands import Cli, texts, write_kernelspec, write_notebook
from tests.support.disks import SmallDisk


def _read(directory: Path) -> Any:
    return json.loads((directory / "kernel.json").read_text())


def _options(kernels: Path, name: str = "mine") -> Any:
    return _read(kernels / name)["metadata"]["kernel_provisioner"]["config"]


def _write(directory: Path, **content: Any) -> None:
    argv = ["bash", "{connection_file}"]
    write_kernelspec(directory, argv=argv, display_name="Own", **content)


def test_add_copies_a_kernelspec_and_writes_only_the_given_options(cli: Cli, kernels: Path) -> None:
    called = cli(
        "kernelspec", "add", "mine", "--from", "python3", "--workdir", "notebook", "--env", "A=B=C"
    )

    content = _read(kernels / "mine")
    assert called.out == f"Added mine: {kernels / 'mine'}\n"
    assert content["metadata"]["kernel_provisioner"] == {
        "provisioner_name": "volume-provisioner",
        "config": {"workdir": "notebook", "env": {"A": "B=C"}},
    }
    assert content["display_name"] == "Python 3 (ipykernel) (mine)"
    assert content["metadata"]["debugger"] is True
    assert (kernels / "mine" / "logo-64x64.png").exists()


def test_an_added_kernelspec_starts_a_kernel_as_it_declares(
    cli: Cli, kernels: Path, tmp_path: Path
) -> None:
    cli("kernelspec", "add", "mine", "--from", "python3", "--workdir", "notebook", "--env", "A=B")
    where = "import os; print(os.getcwd(), os.environ['A'], os.environ['JUPYTER_VOLUME_SESSION'])"
    notebook = write_notebook(tmp_path / "a.ipynb", where)

    called = cli("run", notebook, "--kernel", "mine", "--inplace")

    assert called.code == 0, called.err
    assert texts(notebook) == [f"{tmp_path} B {notebook}\n"]


def test_the_provisioner_of_the_source_becomes_the_launcher(cli: Cli, kernels: Path) -> None:
    other = {"provisioner_name": "local-provisioner", "config": {"queue": "long"}}
    _write(kernels / "other", metadata={"kernel_provisioner": other})

    assert cli("kernelspec", "add", "mine", "--from", "other").code == 0
    assert _options(kernels) == {
        "launcher": "local-provisioner",
        "launcher_config": {"queue": "long"},
    }


def test_a_copy_of_a_kernelspec_with_volumes_keeps_its_options(cli: Cli, kernels: Path) -> None:
    cli("kernelspec", "add", "one", "--from", "python3", "--env", "A=1", "--no-overlay")
    cli("kernelspec", "add", "two", "--from", "one", "--workdir", "notebook")

    content = _read(kernels / "two")
    assert content["metadata"]["kernel_provisioner"]["config"] == {
        "env": {"A": "1"},
        "overlay": False,
        "workdir": "notebook",
    }
    assert content["display_name"] == "Python 3 (ipykernel) (two)"


@pytest.mark.parametrize(
    ("name", "source", "flags", "shown"),
    [
        ("science", "python3", [], "Python 3 (ipykernel) (science)"),
        ("own-volume", "own", [], "Own (volume)"),
        ("python3-volume2", "python3-volume", [], "Python 3 (python3-volume2)"),
        ("science", "python3", ["--display-name", "Mine"], "Mine"),
    ],
)
def test_launchers_show_kernelspecs_of_one_source_under_different_names(
    cli: Cli, kernels: Path, name: str, source: str, flags: list[str], shown: str
) -> None:
    _write(kernels / "own")

    assert cli("kernelspec", "add", name, "--from", source, *flags).code == 0
    assert _read(kernels / name)["display_name"] == shown


def test_options_of_hydration_have_flags(
    cli: Cli, kernels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cli(
        "kernelspec", "add", "mine", "--from", "python3", "--requirements", "numpy", "--requirements", "pandas<3",
        "--bootstrap-command", "sh -c 'echo a b'", "--bootstrap-timeout", "5m", "--nix-watch", "a.nix",
    )  # fmt: skip

    assert _options(kernels) == {
        "requirements": ["numpy", "pandas<3"],
        "bootstrap_command": ["sh", "-c", "echo a b"],
        "bootstrap_timeout": "5m",
        "nix_watch": [str(tmp_path / "a.nix")],
    }


def test_every_option_of_kernel_json_has_a_flag(cli: Cli) -> None:
    flags = set(re.findall(r"--(?:no-)?([a-z-]+)", cli("kernelspec", "add", "--help").out))
    options = {name.replace("_", "-") for name in KernelOptions.class_trait_names(config=True)}

    assert options <= flags


@pytest.mark.parametrize(
    ("flag", "given", "option", "value"),
    [
        ("--nix-profile", "./flake#shell", "nix_profile", "{here}/flake#shell"),
        ("--nix-profile", "path:./flake", "nix_profile", "path:{here}/flake"),
        ("--nix-profile", ".", "nix_profile", "{here}"),
        ("--nix-profile", "nix/shell.nix", "nix_profile", "{here}/nix/shell.nix"),
        ("--nix-profile", "nixpkgs#hello", "nix_profile", "nixpkgs#hello"),
        ("--nix-profile", "github:us/env?dir=a#b", "nix_profile", "github:us/env?dir=a#b"),
        ("--nix-profile", "{here}/flake", "nix_profile", "{here}/flake"),
        ("--requirements", "libs/ours[plot]", "requirements", ["{here}/libs/ours[plot]"]),
        ("--requirements", "./libs/ours", "requirements", ["{here}/libs/ours"]),
        ("--requirements", "ours @ git+https://host/a/b@main", "requirements", ["ours @ git+https://host/a/b@main"]),
        ("--requirements", "https://host/a.whl", "requirements", ["https://host/a.whl"]),
        ("--stale", "warn", "stale", "warn"),
        ("--requirements-file", "r.txt", "requirements", "{here}/r.txt"),
        ("--requires-python", ">=3.10", "requires_python", ">=3.10"),
        ("--pyproject", "project", "pyproject", "{here}/project"),
    ],
)  # fmt: skip
def test_a_typed_path_is_relative_to_the_current_directory(
    cli: Cli, kernels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    flag: str, given: str, option: str, value: str | list[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    present = "flake.nix flake/flake.nix nix/shell.nix project/pyproject.toml r.txt libs/ours/x"
    for path in present.split():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    here = str(tmp_path)
    called = cli("kernelspec", "add", "mine", "--from", "python3", flag, given.format(here=here))

    wanted = json.loads(json.dumps(value).replace("{here}", here))
    assert (called.code, _options(kernels)) == (0, {option: wanted})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--from", "nope"], "There is no kernelspec 'nope'; use one of python3"),
        (["--from", "python3", "--launcher", "nope"], "'nope' of kernelspec 'mine' is not installed"),
        (["--from", "python3", "--launcher", "volume-provisioner"], "itself"),
        (["--from", "python3", "--launcher-config", "{"], "not JSON"),
        (["--from", "python3", "--launcher-config", "[]"], "no JSON object"),
        (["--from", "python3", "--launcher-config", "null"], "no JSON object"),
        (["--from", "python3", "--env", "A"], "NAME=VALUE"),
        (["--from", "python3", "--bootstrap-command", "'"], "quotes"),
        (["--from", "python3", "--bootstrap-timeout", "0"], "bootstrap_timeout"),
        (["--from", "python3", "--requirements", "a", "--requirements-file", "b"], "contradicts"),
        (["--from", "python3", "--requirements", "a", "--pyproject", "b"], "both given"),
        (["--from", "python3", "--bootstrap-command", ""], "--bootstrap-command is empty"),
        (["--from", "python3", "--bootstrap-command", "  "], "--bootstrap-command is empty"),
        (["--from", "python3", "--requirements", "not a ! req"], "'not a ! req' of kernelspec 'mine' is not valid"),
        (["--from", "python3", "--requirements", ""], "no requirement"),
        (["--from", "python3", "--requirements", "./no/lib"], "/no/lib of kernelspec 'mine' does not exist"),
        (["--from", "python3", "--requirements-file", "/no/r.txt"], "file /no/r.txt of kernelspec 'mine' cannot be"),
        (["--from", "python3", "--requirements-file", "/"], "cannot be read"),
        (["--from", "python3", "--requires-python", "foo"], "names no versions; write it like '>=3.11'"),
        (["--from", "python3", "--pyproject", "/no"], "no pyproject.toml in /no,"),
        (["--from", "python3", "--pyproject", "/no/pyproject.toml"], "no pyproject.toml in /no,"),
        (["--from", "python3", "--nix-profile", ""], "name a flake"),
        (["--from", "python3", "--nix-profile", "/no/flake"], "/no/flake, which does not exist"),
        (["--from", "python3", "--nix-profile", "path:/no/flake"], "/no/flake, which does not exist"),
        (["--from", "python3", "--nix-profile", "./no/shell.nix"], "/no/shell.nix, which does not exist"),
        (["--from", "python3", "--prefix", ""], "--prefix is empty"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_refused_and_nothing_is_added(
    cli: Cli, kernels: Path, given: list[str], said: str
) -> None:
    called = cli("kernelspec", "add", "mine", *given)

    assert said in called.refusal
    assert not kernels.exists()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "...", ".hidden", "../mine", "a/b", "a b", "ü", "a" * 256]
)
def test_a_name_that_no_kernelspec_can_have_is_refused_and_deletes_nothing(
    cli: Cli, kernels: Path, name: str
) -> None:
    _write(kernels / "other")
    called = cli("kernelspec", "add", name, "--from", "python3", "--force")

    assert "A kernelspec cannot be named" in called.refusal
    assert [path.name for path in kernels.iterdir()] == ["other"]
    assert [path.name for path in (kernels / "other").iterdir()] == ["kernel.json"]


def test_a_prefix_that_cannot_be_written_is_reported_in_one_line(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    called = cli("kernelspec", "add", "mine", "--from", "python3", "--prefix", tmp_path / "file")

    assert f"was not added (Not a directory: {tmp_path}/file" in called.refusal


def test_a_full_disk_is_reported_in_one_line(cli: Cli, tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path / "disk", 1 << 16)
    disk.mount()
    try:
        (disk.path / "share/jupyter/kernels").mkdir(parents=True)
        disk.fill()
        called = cli("kernelspec", "add", "mine", "--from", "python3", "--prefix", disk.path)
    finally:
        disk.unmount()

    assert "was not added" in called.refusal
    assert "No space left on device" in called.refusal


def test_a_kernelspec_that_another_one_hides_is_reported(cli: Cli) -> None:
    called = cli("kernelspec", "add", "python3-volume", "--from", "python3", "--force")

    assert called.code == 0
    assert "'python3-volume' is hidden by" in called.err


def test_a_kernelspec_is_replaced_only_by_force(cli: Cli, kernels: Path) -> None:
    cli("kernelspec", "add", "mine", "--from", "python3")

    refused = cli("kernelspec", "add", "Mine", "--from", "python3", "--no-overlay")
    forced = cli("kernelspec", "add", "mine", "--from", "python3", "--no-overlay", "--force")

    assert refused.code == 1
    assert f"exists already in {kernels / 'mine'}" in refused.err
    assert forced.code == 0
    assert _options(kernels) == {"overlay": False}


def test_a_kernelspec_can_be_installed_below_a_prefix(cli: Cli, tmp_path: Path) -> None:
    arguments = ("kernelspec", "add", "mine", "--from", "python3", "--prefix", tmp_path)
    installed = tmp_path / "share" / "jupyter" / "kernels" / "mine"

    assert cli(*arguments).out == f"Added mine: {installed}\n"
    assert cli(*arguments).code == 1
    assert installed.is_dir()


def test_remove_removes_only_kernelspecs_that_give_volumes(cli: Cli, kernels: Path) -> None:
    cli("kernelspec", "add", "mine", "--from", "python3")
    _write(kernels / "other")

    removed = cli("kernelspec", "remove", "mine")
    others = [cli("kernelspec", "remove", name) for name in ("other", "python3-volume", "mine")]

    assert removed.out == f"Removed mine: {kernels / 'mine'}\n"
    assert [called.code for called in others] == [1, 1, 1]
    assert "jupyter kernelspec remove other" in others[0].err
    assert "pip uninstall" in others[1].err
    assert (kernels / "other").is_dir()


def test_list_shows_the_kernelspecs_that_give_volumes(cli: Cli, kernels: Path) -> None:
    cli("kernelspec", "add", "mine", "--from", "python3", "--workdir", "notebook")

    listed = {found["name"]: found for found in cli("kernelspec", "list", "--json").json}
    lines = cli("kernelspec", "list").out.splitlines()

    assert set(listed) == {"mine", "python3-volume"}
    assert listed["mine"]["config"] == {"workdir": "notebook"}
    assert lines[1].split()[0] == "mine"
    assert "local-provisioner  notebook" in lines[1]


def misfit(part: str, effect: str, kernels: Path) -> str:
    """Return what is said of the kernelspec `mine` where a part of its metadata is no object."""
    return (
        f"The kernels of kernelspec 'mine' {effect}, because metadata.{part} is no object; write "
        '"kernel_provisioner": {"provisioner_name": "volume-provisioner", "config": {}}, with any options in "config", '
        f"in {kernels / 'mine' / 'kernel.json'}."
    )


@pytest.mark.parametrize("options", [[], "x", None])
def test_options_that_are_no_object_are_reported_by_every_command(
    cli: Cli, kernels: Path, options: object
) -> None:
    """Jupyter fails with such options before it calls the provisioner."""
    stanza = {"provisioner_name": "volume-provisioner", "config": options}
    write_kernelspec(kernels / "mine", metadata={"kernel_provisioner": stanza})
    with pytest.raises(TypeError, match="must be a mapping"):
        KernelManager(kernel_name="mine").start_kernel()

    listed = cli("kernelspec", "list")
    as_json = {found["name"]: found for found in cli("kernelspec", "list", "--json").json}
    examined = [f["said"] for f in cli("doctor", "--json").json["findings"] if f["level"] == "bad"]
    warmed = cli("warm", "mine")

    line = misfit("kernel_provisioner.config", "do not start", kernels)
    assert (listed.code, listed.err) == (0, f"jupyter volumes: {line}\n")
    assert "mine" in listed.out
    assert as_json["mine"]["misfit"] == line
    assert as_json["python3-volume"]["misfit"] is None
    assert examined == [line]
    assert (warmed.code, warmed.err) == (1, f"jupyter volumes: {line}\n")
    metadata = {"kernelspec": {"name": "mine"}}
    notebook = from_dict({"metadata": metadata})  # type: ignore[no-untyped-call]  # nbformat has no types
    with pytest.raises(ConfigError) as refused:
        kernel_for(notebook)
    assert str(refused.value) == line


def test_a_provisioner_that_is_a_string_is_reported(cli: Cli, kernels: Path) -> None:
    """Jupyter starts such a kernel without a volume, and reports nothing."""
    metadata = {"kernel_provisioner": "volume-provisioner"}
    write_kernelspec(kernels / "mine", metadata=metadata)
    examined = [f["said"] for f in cli("doctor", "--json").json["findings"] if f["level"] == "bad"]
    warmed = cli("warm", "mine")
    line = misfit("kernel_provisioner", "get no volume", kernels)
    assert examined == [line]
    assert (warmed.code, warmed.err) == (1, f"jupyter volumes: {line}\n")
