"""What a backup keeps: everything that matters comes back, and plain tar reads it too."""

from __future__ import annotations

import os
import re
import resource
import stat
import subprocess
import tarfile
import threading
from io import BytesIO
from pathlib import Path

import pytest

from provisioner.backup.destinations.urls import destination_for
from provisioner.backup.format.header import FILE, Made, member
from provisioner.backup.format.manifest import About
from provisioner.backup.format.name import BackupName
from provisioner.backup.operation import restore_backup, write_backup
from provisioner.core.errors import VolumeError
from provisioner.system.removal import remove_tree
from tests.support.tools import require
from tests.support.trees import ABOUT, MOMENT, archive_of, extracted, plant_everything, see

MANIFEST = b".volume-backup.json"


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    top = tmp_path / "volume"
    plant_everything(top)
    return top


def test_everything_that_matters_survives_a_round_trip(everything: Path, tmp_path: Path) -> None:
    before = see(everything)
    data, written = archive_of(everything)
    restored = extracted(data, tmp_path / "restored")
    after = see(tmp_path / "restored")
    assert after.keys() == before.keys()
    for path, seen in before.items():
        assert after[path] == seen, path
    assert restored == written.manifest
    assert restored.skipped.count == 2
    assert not restored.partial


def test_the_test_tree_really_has_holes_attributes_and_links(everything: Path) -> None:
    seen = see(everything)
    assert seen[b"sparse"].holes != ((0, 4 << 20),)
    assert seen[b"plain.txt"].xattrs
    assert len(seen[b"plain.txt"].names) == 3


def test_a_backup_can_be_read_with_plain_tar(everything: Path, tmp_path: Path) -> None:
    before = see(everything)
    (tmp_path / "b.tar.zst").write_bytes(archive_of(everything)[0])
    (tmp_path / "by tar").mkdir()
    subprocess.run(
        [require("zstd", "install the package zstd"), "-tq", tmp_path / "b.tar.zst"], check=True
    )
    done = subprocess.run(
        ["tar", "--xattrs", "--zstd", "-C", tmp_path / "by tar", "-xpf", tmp_path / "b.tar.zst"],
        check=True,
        capture_output=True,
        text=True,
    )
    # tar restores files from before 1970 and after today, with a warning.
    warning = re.compile(r"implausibly old time stamp|time stamp .* in the future")
    assert all(map(warning.search, done.stderr.splitlines()))
    after = see(tmp_path / "by tar")
    assert after.keys() == before.keys()
    for path in before.keys() - {MANIFEST}:
        assert after[path] == before[path], path
    assert b'"volume": "vol-1"' in (after[MANIFEST].content or b"")


def test_ten_cycles_lose_nothing(everything: Path, tmp_path: Path) -> None:
    place = destination_for(tmp_path / "backups")
    current = everything
    for cycle in range(10):
        (current / f"new in {cycle}").write_text(str(cycle))
        before = see(current)
        about = About("v", "s", "k", cycle, MOMENT)
        write_backup(current, place, about, cancel=threading.Event())
        current = tmp_path / f"cycle {cycle}"
        restore_backup(place, about.name, current, cancel=threading.Event())
        assert see(current) == before


def test_a_tree_deeper_than_the_number_of_open_files_survives(tmp_path: Path) -> None:
    top = tmp_path / "volume"
    deep = top / "/".join("d" for _ in range(400))
    deep.mkdir(parents=True)
    (deep / "bottom").write_bytes(b"bottom")
    before = see(top)
    few = len(os.listdir("/proc/self/fd")) + 160
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
    try:
        data, _ = archive_of(top)
        extracted(data, tmp_path / "restored")
        remove_tree(top)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert see(tmp_path / "restored") == before
    assert not top.exists()


def test_setuid_and_setgid_of_files_are_dropped_and_sticky_kept(tmp_path: Path) -> None:
    top = tmp_path / "volume"
    top.mkdir()
    (top / "setuid").write_bytes(b"x")
    (top / "setuid").chmod(0o6755)
    (top / "shared").mkdir()
    (top / "shared").chmod(0o3770)
    data, _ = archive_of(top)
    extracted(data, tmp_path / "restored")
    assert stat.S_IMODE((tmp_path / "restored" / "setuid").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "restored" / "shared").stat().st_mode) == 0o3770


def test_restored_files_belong_to_the_user_who_restores(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.fail("this test needs root to make a file of another user")
    top = tmp_path / "volume"
    top.mkdir()
    (top / "theirs").write_bytes(b"x")
    os.chown(top / "theirs", 12345, 54321)
    data, _ = archive_of(top)
    extracted(data, tmp_path / "restored")
    assert (tmp_path / "restored" / "theirs").stat().st_uid == os.getuid()


@pytest.mark.parametrize("size", [8 << 30, (8 << 30) + 1, 1 << 40])
def test_files_beyond_8_gib_fit_into_a_header(size: int) -> None:
    status = Made(0o644, 0, 0, size, 1_700_000_000_500_000_000)
    block = member(b"huge", FILE, status, size)
    with tarfile.open(fileobj=BytesIO(block + bytes(1024))) as archive:
        found = archive.next()
    assert found is not None
    assert (found.name, found.size) == ("huge", size)


def test_a_sparse_file_beyond_8_gib_comes_back(tmp_path: Path) -> None:
    top = tmp_path / "volume"
    top.mkdir()
    with (top / "huge").open("wb") as file:
        file.seek(9 << 30)
        file.write(b"end")
    data, _ = archive_of(top)
    assert len(data) < 100_000
    extracted(data, tmp_path / "restored")
    status = (tmp_path / "restored" / "huge").stat()
    assert status.st_size == (9 << 30) + 3
    assert status.st_blocks < 1000
    with (tmp_path / "restored" / "huge").open("rb") as file:
        file.seek(9 << 30)
        assert file.read() == b"end"


def test_large_ids_survive_for_plain_tar(tmp_path: Path) -> None:
    status = Made(0o644, 3_000_000, 4_000_000_000, 0, 0)
    block = member(b"f", FILE, status)
    with tarfile.open(fileobj=BytesIO(block + bytes(1024))) as archive:
        found = archive.next()
    assert found is not None
    assert (found.uid, found.gid) == (3_000_000, 4_000_000_000)


def test_nothing_is_restored_over_an_existing_directory(everything: Path, tmp_path: Path) -> None:
    data, _ = archive_of(everything)
    (tmp_path / "there").mkdir()
    with pytest.raises(VolumeError, match="choose a new directory"):
        extracted(data, tmp_path / "there")
    assert (tmp_path / "there").is_dir()


def test_a_backup_is_named_after_volume_moment_and_generation() -> None:
    assert str(ABOUT.name) == "vol-1-20260304T050607Z.g7.tar.zst"
    assert BackupName.parse(str(ABOUT.name)) == ABOUT.name
