from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import psutil
import pytest

from provisioner.backup.destinations.urls import destination_for
from provisioner.backup.format.name import BackupName
from provisioner.backup.operation import estimate, verify_backup
from provisioner.core.errors import BackupFailed, DiskFull
from tests.support.children import Child
from tests.support.tools import do_without
from tests.support.trees import ABOUT, MOMENT, back_up, bring_back, plant_everything, see

NAME = ABOUT.name


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    plant_everything(tmp_path / "volume")
    return tmp_path / "volume"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m,nr_inodes=1000", "tmpfs", disk],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        do_without(f"this test needs the right to mount a tmpfs (root): {mounted.stderr}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_backups_and_their_directory_are_private(volume: Path, tmp_path: Path) -> None:
    place = destination_for(tmp_path / "new" / "backups")
    back_up(volume, place)
    directory = tmp_path / "new" / "backups"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / str(NAME)).stat().st_mode) == 0o600


CHILD = """
import os, signal, sys
from pathlib import Path
from provisioner.backup.destinations.urls import destination_for
from tests.support.trees import back_up
def stop(step):
    if step == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)
back_up(Path(sys.argv[1]), destination_for(sys.argv[2]), on_step=stop)
"""
STEPS = (
    "put:created",
    "backup:directory",
    "backup:manifest",
    "put:written",
    "put:flushed",
    "put:checked",
    "put:renamed",
    "put:done",
)


@pytest.mark.parametrize("step", STEPS)
def test_a_writer_killed_at_any_step_leaves_a_whole_backup_or_nothing_after_a_sweep(
    volume: Path, tmp_path: Path, step: str
) -> None:
    place = destination_for(tmp_path / "backups")
    command: list[str | Path] = [sys.executable, "-c", CHILD, volume, tmp_path / "backups", step]
    root = Path(__file__).parents[2]
    assert subprocess.run(command, cwd=root, check=False).returncode == -signal.SIGKILL
    place.sweep_partials(MOMENT)
    left = os.listdir(tmp_path / "backups")
    if step in {"put:renamed", "put:done"}:
        assert left == [str(NAME)]
        verify_backup(place, NAME, cancel=threading.Event())
    else:
        assert left == []
        back_up(volume, place)
    bring_back(place, tmp_path / "restored")
    assert see(tmp_path / "restored") == see(volume)


def test_a_sweep_keeps_the_partial_file_of_a_live_writer(tmp_path: Path) -> None:
    place = destination_for(tmp_path / "backups")
    swept: list[list[str]] = []

    def write(stream: BinaryIO) -> None:
        stream.write(b"content")
        swept.append(place.sweep_partials(MOMENT))

    place.put(NAME, write, lambda stream: swept.append(place.sweep_partials(MOMENT)))
    assert swept == [[], []]
    assert (tmp_path / "backups" / str(NAME)).read_bytes() == b"content"


def test_an_error_that_the_disk_reports_only_once_fails_the_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux tells each failed write to one `fsync` of an open file, and the next one succeeds."""
    reported, fsync = threading.Event(), os.fsync

    def fail_once(file: int) -> None:
        if reported.is_set():
            fsync(file)
        else:
            reported.set()
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def write(stream: BinaryIO) -> None:
        stream.write(b"content")
        assert reported.wait(60)

    monkeypatch.setattr(os, "fsync", fail_once)
    with pytest.raises(BackupFailed, match="Input/output error"):
        destination_for(tmp_path / "backups").put(NAME, write, lambda stream: None)
    assert os.listdir(tmp_path / "backups") == []


@pytest.mark.parametrize("when", ["write", "check"])
def test_a_child_forked_during_a_backup_does_not_keep_its_file_open(
    tmp_path: Path, when: str
) -> None:
    """While the child lived, a sweep could not delete the partial file, and a deleted file would keep its space."""
    place = destination_for(tmp_path / "backups")
    children: list[Child] = []
    partials: list[str] = []

    def fork() -> None:
        children.append(Child(lambda: open_below(tmp_path), stays=True))

    def write(stream: BinaryIO) -> None:
        stream.write(b"content")
        partials.extend(os.listdir(tmp_path / "backups"))
        if when == "write":
            fork()

    def check(stream: BinaryIO) -> None:
        if when == "check":
            fork()
        # As if the writer had been killed before it could delete the file.
        os.link(tmp_path / "backups" / partials[0], tmp_path / "kept")
        raise BackupFailed("no; try again")

    with pytest.raises(BackupFailed):
        place.put(NAME, write, check)
    (tmp_path / "kept").rename(tmp_path / "backups" / partials[0])
    with children[0] as child:
        assert child.said() == "[]"
        assert place.sweep_partials(MOMENT) == partials


def open_below(directory: Path) -> list[str]:
    """Return the open files of this process that lie below a directory."""
    names = [process.path for process in psutil.Process().open_files()]
    return [name for name in names if Path(name).is_relative_to(directory)]


def test_a_sweep_deletes_partial_files_without_a_writer_and_nothing_else(tmp_path: Path) -> None:
    place = destination_for(tmp_path)
    assert place.sweep_partials(MOMENT) == []
    (tmp_path / ".partial-dead").touch()
    (tmp_path / ".partial-live").touch()
    (tmp_path / str(NAME)).touch()
    with (tmp_path / ".partial-live").open("r+b") as live:
        fcntl.flock(live, fcntl.LOCK_EX)
        assert place.sweep_partials(MOMENT) == [".partial-dead"]
    assert [stored.name for stored in place.backups()] == [NAME]
    assert sorted(os.listdir(tmp_path)) == [".partial-live", str(NAME)]


def test_a_full_disk_says_how_much_was_needed_and_keeps_no_half_file(
    tmp_path: Path, small_disk: Path
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "data").write_bytes(os.urandom(20 << 20))
    needed = estimate(volume)
    assert needed > 20 << 20
    with pytest.raises(DiskFull, match=f"needs up to {needed:,} bytes"):
        back_up(volume, destination_for(small_disk))
    assert os.listdir(small_disk) == []
    free = destination_for(small_disk / "not" / "yet").free_bytes()
    assert free is not None
    assert 7 << 20 < free <= 8 << 20


def test_a_restore_that_cannot_fit_is_refused_before_it_begins(
    tmp_path: Path, small_disk: Path
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "data").write_bytes(bytes(range(256)) * (80 << 10))
    place = destination_for(tmp_path / "backups")
    back_up(volume, place)
    steps: list[str] = []
    with pytest.raises(DiskFull, match="are needed"):
        bring_back(place, small_disk / "restored", on_step=steps.append)
    assert steps == []
    assert os.listdir(small_disk) == []


def test_a_disk_that_fills_during_a_restore_keeps_no_half_volume(
    tmp_path: Path, small_disk: Path
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "data").write_bytes(os.urandom(6 << 20))
    place = destination_for(tmp_path / "backups")
    back_up(volume, place)

    def fill(step: str) -> None:
        if step == "restore:created":
            (small_disk / "other").write_bytes(bytes(4 << 20))

    with pytest.raises(DiskFull, match="became full"):
        bring_back(place, small_disk / "restored", on_step=fill)
    assert os.listdir(small_disk) == ["other"]


def test_a_tree_of_too_many_files_is_refused_before_it_begins(
    tmp_path: Path, small_disk: Path
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    for number in range(1100):
        (volume / str(number)).touch()
    place = destination_for(tmp_path / "backups")
    back_up(volume, place)
    with pytest.raises(DiskFull, match="more files"):
        bring_back(place, small_disk / "restored")


def test_attributes_do_not_keep_files_from_a_file_system_without_any(
    volume: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    mounted = subprocess.run(["mount", "-t", "ramfs", "ramfs", plain], check=False)
    if mounted.returncode:
        do_without("this test needs the right to mount a ramfs (root)")
    try:
        place = destination_for(tmp_path / "backups")
        back_up(volume, place)
        (plain / "probe").touch()
        with pytest.raises(OSError, match="not supported"):
            os.setxattr(plain / "probe", "user.x", b"")
        bring_back(place, plain / "restored")
        before, after = (see(top, exactly=False) for top in (volume, plain / "restored"))
        assert {p: s.content for p, s in before.items()} == {p: s.content for p, s in after.items()}
    finally:
        subprocess.run(["umount", plain], check=True)


def test_a_destination_that_cannot_be_written_is_named(volume: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BackupFailed, match=str(tmp_path / "file")):
        back_up(volume, destination_for(tmp_path / "file"))


def test_the_estimate_is_never_below_the_real_size(volume: Path, tmp_path: Path) -> None:
    place = destination_for(tmp_path / "backups")
    backup = back_up(volume, place)
    assert backup.size < estimate(volume) < 50 << 20


@pytest.mark.parametrize(
    "text",
    [
        "vol.tar.zst",
        "vol-20260230T000000Z.g1.tar.zst",
        "vol-20260304T050607Z.g01.tar.zst",
        "-20260304T050607Z.g1.tar.zst",
        ".partial-0-vol-20260304T050607Z.g1.tar.zst",
        "a/b-20260304T050607Z.g1.tar.zst",
        "vol-20260304T050607Z.g1.tar.zst\n",
        "vol-٢0260304T050607Z.g1.tar.zst",
    ],
)
def test_only_the_names_that_backups_get_are_parsed(text: str) -> None:
    assert BackupName.parse(text) is None


@pytest.mark.parametrize("volume_id", ["", ".x", "a/b", "a b", "ü", "x" * 129, "a\n"])
def test_volume_ids_that_fit_no_file_name_are_refused(volume_id: str) -> None:
    with pytest.raises(BackupFailed):
        BackupName(volume_id, MOMENT, 0)
