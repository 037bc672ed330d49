from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from provisioner.backup.destinations.urls import destination_for
from provisioner.backup.format.name import BackupName
from provisioner.backup.operation import read_summary, restore_backup, verify_backup
from provisioner.core.errors import BackupDamaged
from tests.support.trees import ABOUT, archive_of, bring_back, extracted, plant_everything, verified


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    top = tmp_path_factory.mktemp("damage") / "volume"
    plant_everything(top)
    return archive_of(top)[0]


def _refused(data: bytes, into: Path) -> None:
    with pytest.raises(BackupDamaged) as found:
        verified(data)
    assert "\n" not in str(found.value)
    with pytest.raises(BackupDamaged):
        extracted(data, into)
    assert not into.exists()


@pytest.mark.parametrize("seed", range(100))
def test_a_flipped_bit_anywhere_is_found_and_refused(
    whole: bytes, tmp_path: Path, seed: int
) -> None:
    bit = random.Random(seed).randrange(len(whole) * 8)
    damaged = bytearray(whole)
    damaged[bit // 8] ^= 1 << bit % 8
    _refused(bytes(damaged), tmp_path / "restored")


@pytest.mark.parametrize("seed", range(100))
def test_a_truncation_anywhere_is_found_and_refused(
    whole: bytes, tmp_path: Path, seed: int
) -> None:
    _refused(whole[: random.Random(seed).randrange(len(whole))], tmp_path / "restored")


def test_a_flipped_bit_in_each_byte_of_both_ends_is_found(whole: bytes) -> None:
    """zstd itself does not check all bits of the frame's header, and none of the trailer."""
    places = [*range(32), *range(len(whole) - 1200, len(whole))]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 0x20
        with pytest.raises(BackupDamaged):
            verified(bytes(damaged))


@pytest.mark.parametrize("extra", [b"\0", b"x" * 1000, b"\x28\xb5\x2f\xfd\x00\x00\x01\x00\x00"])
def test_something_appended_is_found(whole: bytes, tmp_path: Path, extra: bytes) -> None:
    _refused(whole + extra, tmp_path / "restored")


def test_a_stretch_taken_from_another_place_is_found(whole: bytes, tmp_path: Path) -> None:
    middle = len(whole) // 2
    damaged = whole[:middle] + whole[1000:1512] + whole[middle + 512 :]
    _refused(damaged, tmp_path / "restored")


def test_a_damaged_backup_is_refused_by_name(whole: bytes, tmp_path: Path) -> None:
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1
    (tmp_path / str(ABOUT.name)).write_bytes(damaged)
    place = destination_for(tmp_path)
    with pytest.raises(BackupDamaged, match=str(ABOUT.name)):
        verify_backup(place, ABOUT.name, cancel=threading.Event())
    with pytest.raises(BackupDamaged, match=str(ABOUT.name)):
        bring_back(place, tmp_path / "restored")
    assert read_summary(place, ABOUT.name).about == ABOUT


def test_a_backup_under_another_name_is_refused(whole: bytes, tmp_path: Path) -> None:
    name = BackupName(ABOUT.volume, ABOUT.created, ABOUT.generation + 1)
    (tmp_path / str(name)).write_bytes(whole)
    place = destination_for(tmp_path)
    with pytest.raises(BackupDamaged, match="another backup than its name"):
        verify_backup(place, name, cancel=threading.Event())
    with pytest.raises(BackupDamaged, match="another backup than its name"):
        read_summary(place, name)
    with pytest.raises(BackupDamaged, match="another backup than its name"):
        restore_backup(place, name, tmp_path / "restored", cancel=threading.Event())
