"""Disk space reserved for the table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.system.reserve import SIZE, Reserve
from tests.support.disks import SmallDisk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk with room for a reserve and not much more than must be free beside it."""
    with SmallDisk(tmp_path / "disk", 20 * SIZE) as disk:
        yield disk


def test_the_reserve_can_be_spent_when_the_disk_is_full(disk: SmallDisk) -> None:
    reserve = Reserve(disk.path)
    assert reserve.fill()
    disk.fill()
    assert reserve.spend()
    (disk.path / "table").write_bytes(bytes(SIZE // 2))
    assert not reserve.spend()


def test_a_nearly_full_disk_is_not_filled_further(disk: SmallDisk) -> None:
    (disk.path / "files").write_bytes(bytes(10 * SIZE))
    reserve = Reserve(disk.path)
    assert not reserve.fill()
    assert [path.name for path in disk.path.iterdir()] == ["files"]
    (disk.path / "files").unlink()
    assert reserve.fill()


def test_a_reserve_that_was_cut_short_is_made_whole(disk: SmallDisk) -> None:
    (disk.path / "reserve").write_bytes(b"half")
    assert Reserve(disk.path).fill()
    assert (disk.path / "reserve").stat().st_size == SIZE
    assert Reserve(disk.path).fill()


def test_a_reserve_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    assert not Reserve(tmp_path / "none").fill()
    (tmp_path / "reserve").mkdir()
    assert not Reserve(tmp_path).fill()
    assert not Reserve(tmp_path).spend()
