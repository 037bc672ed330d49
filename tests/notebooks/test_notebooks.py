"""The notebooks about hydration work as they describe, with the commands that they name."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.commands import Cli, texts
from tests.support.nix_store import NixStore
from tests.support.starts import processes_started

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"

# The part of nixpkgs that shell.nix uses, reduced to what builds without a network.
NIXPKGS = """
{ }: let
  build = name: script: derivation {
    inherit name; system = builtins.currentSystem; builder = "/bin/bash"; PATH = "/usr/bin:/bin";
    args = [ "-euc" (script + "\\nexit 0") ];
  };
in {
  writeShellScriptBin = name: text: build name ''
    mkdir -p $out/bin
    printf '%s\\n' '#!/bin/sh' ${"'" + text + "'"} > $out/bin/${name}
    chmod +x $out/bin/${name}
  '';
  mkShell = { packages, ... }@attributes: derivation (removeAttrs attributes [ "packages" ] // {
    name = "shell"; system = builtins.currentSystem; builder = "/bin/bash"; outputs = [ "out" ];
    buildInputs = packages;
    stdenv = build "stdenv" ''
      mkdir $out
      printf '%s\\n' 'PATH=' 'for i in $buildInputs; do PATH=$PATH''${PATH:+:}$i/bin; done' \\
        'export PATH' > $out/setup
    '';
  });
}
"""


@pytest.fixture
def desk(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the notebooks, and the working directory."""
    desk = Path(shutil.copytree(NOTEBOOKS, tmp_path / "notebooks"))
    monkeypatch.chdir(desk)
    return desk


def commands_of(notebook: Path) -> list[list[str]]:
    """Return the commands that a notebook's first cell asks its reader to run."""
    source = "".join(json.loads(notebook.read_text())["cells"][0]["source"])
    block = source.partition("```sh\n")[2].partition("```")[0]
    commands = [shlex.split(line) for line in block.splitlines()]
    assert all(command[:2] == ["jupyter", "volumes"] for command in commands)
    return [command[2:] for command in commands]


def visit(cli: Cli, notebook: Path, *instead: str) -> list[str]:
    """Follow the notebook; return what its cells printed."""
    add, run = commands_of(notebook)
    added = cli(*add[:-1], *(instead or add[-1:]), "--force")
    assert added.code == 0, added.err
    executed = cli(*run, "--inplace")
    assert executed.code == 0, executed.out + executed.err
    return texts(notebook)


def remove(cli: Cli, notebook: Path) -> None:
    """Clean up as the notebook's last cell describes."""
    last = "".join(json.loads(notebook.read_text())["cells"][-1]["source"])
    commands = [
        text
        for text in last.split("`")
        if text.startswith(("jupyter volumes prune", "jupyter volumes kernelspec"))
    ]
    assert len(commands) == 2
    for command in commands:
        words = shlex.split(command)[2:]
        called = cli(*words, *(["--yes"] if words[0] == "prune" else []))  # a terminal would ask
        assert called.code == 0, called.err


@pytest.fixture
def nix_on_the_machine(nix_session: NixStore, monkeypatch: pytest.MonkeyPatch) -> NixStore:
    for name, value in nix_session.env.items():
        monkeypatch.setenv(name, value)
    return nix_session


def test_the_nix_notebook_runs_in_its_shell_and_a_second_run_does_not_call_nix(
    cli: Cli, desk: Path, nix_on_the_machine: NixStore
) -> None:
    first = visit(cli, desk / "nix.ipynb")
    store = str(nix_on_the_machine.root / "store")
    assert "GREETING: Good morning\n" in first[1]
    assert f"greet is: {store}/" in first[1]
    assert "ANSWER:   42\n" in first[1]
    assert first[2].strip() == "Good morning, Ada."
    assert first[4].startswith("kept by root-")
    with processes_started() as started:
        assert visit(cli, desk / "nix.ipynb") == first
    assert len(started) == 1
    assert "ipykernel_launcher" in started[0]
    with (desk / "nix/flake.nix").open("a") as flake:
        flake.write("# changed\n")
    shown = cli("show", "nix.ipynb").out
    assert f"out of date: {desk / 'nix/flake.nix'} changed" in shown
    remove(cli, desk / "nix.ipynb")


def test_the_nix_notebook_also_works_with_nixpkgs(
    cli: Cli,
    desk: Path,
    tmp_path: Path,
    nix_on_the_machine: NixStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "nixpkgs").mkdir()
    (tmp_path / "nixpkgs/default.nix").write_text(NIXPKGS)
    monkeypatch.setenv("NIX_PATH", f"nixpkgs={tmp_path / 'nixpkgs'}")
    assert "./nix/shell.nix" in (desk / "nix.ipynb").read_text()
    printed = visit(cli, desk / "nix.ipynb", "./nix/shell.nix")
    assert printed[2].strip() == "Good morning, Ada."
    assert "ANSWER:   42\n" in printed[1]


def test_the_uv_notebook_has_its_packages_and_keeps_those_of_its_reader(
    cli: Cli, desk: Path, index: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in index.items():
        monkeypatch.setenv(name, value)
    first = visit(cli, desk / "uv.ipynb")
    monkeypatch.setenv("UV_OFFLINE", "1")
    second = visit(cli, desk / "uv.ipynb")
    assert first[1].startswith("Measure twice, cut once.\n")
    assert first[2] == "tour_guest is not yet installed\n"
    assert second[2] == "tour_guest is here from an earlier visit\n"
    assert "Ada lives in .volume/env/lib/" in second[5]
    remove(cli, desk / "uv.ipynb")


@pytest.mark.parametrize(("name", "cure"), [("nix", "nixos.org"), ("uv", "pip install uv")])
def test_without_the_tool_a_notebook_names_the_cure(desk: Path, name: str, cure: str) -> None:
    head = "".join(json.loads((desk / f"{name}.ipynb").read_text())["cells"][0]["source"])
    (line,) = [line for line in head.splitlines() if line.startswith("Without ")]
    assert cure in line
    assert (desk / name).is_dir()
