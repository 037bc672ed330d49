"""Roots are made, or refused with a reason and a cure."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from provisioner.core.errors import RootUnusable
from provisioner.settings.pool import VolumePool
from provisioner.system import root as roots
from provisioner.system.root import file_system, network_file_system, prepare
from tests.support.children import Child
from tests.support.disks import SmallDisk

NOBODY = 65534


def refusal(root: Path, *, allow_network: bool = False) -> str:
    """Return the message with which a root is refused, which must be one line."""
    with pytest.raises(RootUnusable) as caught:
        prepare(root, allow_network=allow_network)
    said = str(caught.value)
    assert "\n" not in said
    assert str(root) in said
    return said


def as_nobody(work: Callable[[], object]) -> str:
    """Do `work` in a child that is an ordinary user; return the kind of error that it raises, and the message."""

    def as_an_ordinary_user() -> object:
        if os.getuid() == 0:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        return work()

    with Child(as_an_ordinary_user) as child:
        return child.said()


@pytest.fixture
def open_path(tmp_path: Path) -> Path:
    """A directory that other users reach and may write to."""
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_uid == os.getuid() and directory != Path("/"):
            directory.chmod(directory.stat().st_mode | 0o055)
    open_path = tmp_path / "open"
    open_path.mkdir()
    open_path.chmod(0o777)
    return open_path


def test_a_root_is_made_with_all_its_directories_for_its_owner_alone(tmp_path: Path) -> None:
    root = tmp_path / "volumes"
    before = os.umask(0)
    try:
        layout = prepare(root, allow_network=False)
    finally:
        os.umask(before)
    for directory in (root, *layout.directories):
        assert directory.stat().st_mode & 0o777 == 0o700
    assert prepare(root, allow_network=False).directories == layout.directories


def test_one_parent_of_a_root_may_be_missing_too(tmp_path: Path) -> None:
    prepare(tmp_path / "scratch" / "volumes", allow_network=False)


def test_the_default_root_is_made_in_a_home_that_is_empty_for_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("JUPYTER_DATA_DIR", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    root = VolumePool().root_path
    before = os.umask(0)
    try:
        prepare(root, allow_network=False)
    finally:
        os.umask(before)
    made = [directory for directory in (root, *root.parents) if tmp_path in directory.parents]
    assert len(made) > 2
    assert {directory.stat().st_mode & 0o777 for directory in made} == {0o700}


def test_a_root_whose_parents_are_missing_is_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path / "typing" / "erorr" / "volumes")
    assert f"{tmp_path}/typing/erorr does not exist" in said
    assert not (tmp_path / "typing").exists()


def test_a_root_on_a_full_disk_is_refused_with_the_advice_to_free_space(tmp_path: Path) -> None:
    with SmallDisk(tmp_path / "disk", 1 << 20) as disk:
        subprocess.run(["mount", "-o", "remount,nr_inodes=1", str(disk.path)], check=True)
        said = refusal(disk.path / "volumes")
    assert "No space left on device" in said
    assert "free some space" in said


def test_a_file_is_no_root(tmp_path: Path) -> None:
    root = tmp_path / "file"
    root.write_text("mine")
    assert "not a directory" in refusal(root)
    assert root.read_text() == "mine"


def test_a_root_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert f"{tmp_path}/file" in refusal(tmp_path / "file" / "volumes").partition("(")[2]


def test_a_link_is_refused_naming_the_directory_itself(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("real")
    assert f"{tmp_path}/real" in refusal(tmp_path / "link")
    (tmp_path / "dangling").symlink_to("nowhere")
    assert "symbolic link" in refusal(tmp_path / "dangling")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("mode", [0o777, 0o755, 0o750, 0o701])
def test_a_root_open_to_others_is_refused_with_the_command_that_closes_it(
    tmp_path: Path, mode: int
) -> None:
    root = tmp_path / "open"
    root.mkdir()
    root.chmod(mode)
    said = refusal(root)
    assert f"chmod 700 {root}" in said
    assert not list(root.iterdir())
    root.chmod(0o700)
    layout = prepare(root, allow_network=False)
    (layout.volumes / "v1-x").mkdir()
    root.chmod(mode)
    assert f"chmod 700 {root}" in refusal(root)


def test_a_directory_of_other_files_is_refused_without_the_advice_to_close_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "homepage").mkdir()
    tmp_path.chmod(0o755)
    said = refusal(tmp_path)
    assert "chmod" not in said
    assert f"such as {tmp_path}/volumes" in said
    assert [path.name for path in tmp_path.iterdir()] == ["homepage"]


def test_another_users_root_is_refused(open_path: Path) -> None:
    root = open_path / "volumes"
    prepare(root, allow_network=False)
    root.chmod(0o777)
    said = as_nobody(lambda: prepare(root, allow_network=False))
    assert f"belongs to user {os.getuid()}, not to you ({NOBODY})" in said


def test_a_root_that_cannot_be_reached_is_refused(open_path: Path) -> None:
    (open_path / "closed").mkdir(mode=0o700)
    said = as_nobody(lambda: prepare(open_path / "closed" / "volumes", allow_network=False))
    assert "Permission denied" in said
    assert said.startswith("RootUnusable: The root ")


def test_a_root_that_may_not_be_written_is_refused(open_path: Path) -> None:
    def work() -> None:
        root = open_path / "own"
        root.mkdir(mode=0o500)
        prepare(root, allow_network=False)

    assert "cannot be written" in as_nobody(work)


def test_a_root_on_a_read_only_file_system_is_refused(tmp_path: Path) -> None:
    with SmallDisk(tmp_path / "disk", 1 << 20) as disk:
        (disk.path / "volumes").mkdir(mode=0o700)
        subprocess.run(["mount", "-o", "remount,ro", str(disk.path)], check=True)
        assert "cannot be written" in refusal(disk.path / "volumes")
        assert "Read-only file system" in refusal(disk.path / "new")


def test_a_path_that_no_directory_can_have_is_refused(tmp_path: Path) -> None:
    for name in ("a\0b", "a" * 300):
        with pytest.raises(RootUnusable) as caught:
            prepare(tmp_path / name, allow_network=False)
        assert "\0" not in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("taken", ["volumes", "leases", "staging", "trash"])
def test_a_file_in_the_place_of_a_directory_is_named(tmp_path: Path, taken: str) -> None:
    root = tmp_path / "volumes"
    root.mkdir(mode=0o700)
    (root / taken).touch()
    assert "File exists" in refusal(root)


# -- network file systems ------------------------------------------------------------------------------------------


def mounts_with(kind: str, device: int) -> str:
    """Return a table of mounts in which the file system of a device is of that kind."""
    number = f"{os.major(device)}:{os.minor(device)}"
    return (
        "21 26 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n"
        "22 26 0:999999 / /elsewhere rw shared:8 - nfs4 host:/x rw\n"
        f"26 1 {number} / / rw,relatime shared:1 master:2 - {kind} /dev/vda rw,errors=remount-ro\n"
    )


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make the table of mounts show `tmp_path` on a file system of the given kind."""

    def mount(kind: str) -> None:
        table = tmp_path / "mountinfo"
        table.write_text(mounts_with(kind, tmp_path.stat().st_dev))
        monkeypatch.setattr(roots, "_MOUNTS", str(table))

    return mount


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "lustre", "ceph", "fuse.sshfs", "fuse.s3fs"]
)
def test_a_root_on_a_network_is_refused_with_the_setting_that_overrides(
    tmp_path: Path, mounted: Callable[[str], None], kind: str
) -> None:
    mounted(kind)
    said = refusal(tmp_path / "volumes")
    assert f"({kind})" in said
    assert "VolumePool.allow_network_root" in said
    prepare(tmp_path / "volumes", allow_network=True)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuse.ntfs"])
def test_a_local_root_is_taken(tmp_path: Path, mounted: Callable[[str], None], kind: str) -> None:
    mounted(kind)
    assert file_system(tmp_path) == kind
    assert network_file_system(tmp_path) is None
    prepare(tmp_path / "volumes", allow_network=False)


@pytest.mark.parametrize("table", ["", "nonsense\n", "1 2 3\n", "26 1 0:1 / / rw\n\n"])
def test_an_unreadable_table_of_mounts_prevents_no_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    (tmp_path / "mountinfo").write_text(table)
    monkeypatch.setattr(roots, "_MOUNTS", str(tmp_path / "mountinfo"))
    assert file_system(tmp_path) is None
    prepare(tmp_path / "volumes", allow_network=False)


def test_without_a_table_of_mounts_the_file_system_comes_from_psutil(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = file_system(tmp_path)
    monkeypatch.setattr(roots, "_MOUNTS", str(tmp_path / "none"))
    assert file_system(tmp_path) == expected
