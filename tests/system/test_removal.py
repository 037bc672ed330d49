"""Trees are deleted at any depth and with any mode, and nothing else is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from provisioner.system.descent import OPEN, Descent
from provisioner.system.removal import remove, remove_tree

WAYS: list[Callable[[Path], None]] = [remove, remove_tree]


@pytest.mark.parametrize("way", WAYS)
def test_a_tree_deeper_than_pythons_stack_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Callable[[Path], None]
) -> None:
    top = tmp_path / "top"
    top.mkdir()
    monkeypatch.chdir(top)
    for _ in range(2000):
        os.mkdir("deeper")
        os.chdir("deeper")
    os.chdir(tmp_path)
    way(top)
    assert not top.exists()


@pytest.mark.parametrize("way", WAYS)
def test_read_only_directories_are_deleted_and_the_targets_of_links_stay(
    tmp_path: Path, way: Callable[[Path], None]
) -> None:
    kept, top = tmp_path / "kept", tmp_path / "top"
    (kept / "sub").mkdir(parents=True)
    (kept / "file").write_text("kept")
    (top / "sub").mkdir(parents=True)
    (top / "sub" / "file").touch()
    (top / "sub" / "link").symlink_to(kept)
    (top / "sub").chmod(0o500)
    top.chmod(0o000)
    way(top)
    assert not top.exists()
    assert (kept / "file").read_text() == "kept"


def test_files_and_links_are_deleted_and_missing_paths_ignored(tmp_path: Path) -> None:
    kept, file, link = tmp_path / "kept", tmp_path / "file", tmp_path / "link"
    kept.mkdir()
    file.touch()
    link.symlink_to(kept)
    for path in (file, link, tmp_path / "missing", file / "below"):
        remove(path)
    assert os.listdir(tmp_path) == ["kept"]


def test_the_way_up_from_a_directory_that_was_moved_away_leads_to_where_it_came_from(
    tmp_path: Path,
) -> None:
    top, elsewhere = tmp_path / "top", tmp_path / "elsewhere"
    (top / "a" / "b").mkdir(parents=True)
    elsewhere.mkdir()
    root = os.open(top, OPEN)
    with Descent(root) as descent:
        descent.open(b"a/b")
        (top / "a" / "b").rename(elsewhere / "b")
        assert os.path.samestat(os.fstat(descent.open(b"a")), (top / "a").stat())
    os.close(root)
