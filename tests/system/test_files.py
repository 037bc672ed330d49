"""Files that are replaced in one step."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from provisioner.system.files import replace_file, replacing


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_replaced_whole_with_its_mode(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "file"
    replace_file(path, b"first")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"first", 0o600)
    replace_file(path, b"second", 0o755, durable=durable)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"second", 0o755)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("many_writers", [True, False])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, many_writers: bool
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fill_the_disk() -> None:
        with replacing(path, many_writers=many_writers) as aside:
            aside.write_bytes(b"ha")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fill_the_disk()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path) as aside:
        aside.write_bytes(b"whole")
    aside.write_bytes(b"ha")
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_a_link_in_the_place_of_the_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "file", tmp_path / "elsewhere"
    elsewhere.write_bytes(b"kept")
    for name in (path, tmp_path / ".file.new"):
        name.symlink_to(elsewhere)
    replace_file(path, b"new")
    assert elsewhere.read_bytes() == b"kept"
    assert path.read_bytes() == b"new"
    assert not path.is_symlink()


def test_two_writers_at_once_both_succeed_and_the_last_one_counts(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path, many_writers=True) as aside:
        aside.write_bytes(b"last")
        replace_file(path, b"first", many_writers=True)
        assert path.read_bytes() == b"first"
    assert path.read_bytes() == b"last"
    assert os.listdir(tmp_path) == ["file"]


def test_a_directory_where_the_file_is_written_aside_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "file"
    (tmp_path / ".file.new" / "anything").mkdir(parents=True)
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]
