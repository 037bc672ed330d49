from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from provisioner.pool.pool import Pool
from provisioner.settings.pool import load_settings
from tests.support.commands import Cli, make_volume, write_notebook


def test_path_prints_the_directory_and_nothing_else(cli: Cli) -> None:
    acquired = make_volume("a")

    assert cli("path", "a").out == f"{acquired.path}\n"
    assert cli("path", acquired.record.id).out == f"{acquired.path}\n"


def test_a_former_name_finds_the_volume(cli: Cli) -> None:
    acquired = make_volume("old")
    Pool(load_settings()).catalog.relabel(acquired.record.id, "new")

    assert cli("path", "old").out == f"{acquired.path}\n"
    assert cli("show", "old").out.splitlines()[0].split() == ["session", "new"]


def test_the_relative_path_of_a_notebook_finds_its_volume(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = write_notebook(tmp_path / "a.ipynb")
    acquired = make_volume(str(notebook))
    monkeypatch.chdir(tmp_path)

    assert cli("path", "a.ipynb").out == f"{acquired.path}\n"


def test_a_notebook_that_names_a_session_finds_the_volume_of_that_session(
    cli: Cli, tmp_path: Path
) -> None:
    notebook = write_notebook(tmp_path / "a.ipynb", volume={"session": "shared"})
    acquired = make_volume("shared")

    assert cli("path", notebook).out == f"{acquired.path}\n"


@pytest.mark.parametrize("session", ["../../etc", "nul\0", "x" * 10_000, "line\nbreak", "", "CON"])
def test_an_unknown_session_is_refused_in_one_line(cli: Cli, session: str) -> None:
    make_volume("a")
    called = cli("path", session)

    assert called.out == ""
    assert len(called.refusal) < 1000


def test_a_pruned_volume_has_no_path(cli: Cli) -> None:
    acquired = make_volume("a")
    Pool(load_settings()).root.registry.volumes.mark_pruned(acquired.record.id)

    called = cli("path", "a")

    assert called.code == 1
    assert "is pruned" in called.err
    assert called.out == ""
    assert cli("show", "a", "--json").json["path"] is None


def test_path_refuses_a_volume_whose_files_are_missing(cli: Cli) -> None:
    acquired = make_volume("a")
    shutil.rmtree(acquired.path)

    called = cli("path", "a")

    assert called.code == 1
    assert "does not exist" in called.err
