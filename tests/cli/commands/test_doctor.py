from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provisioner.cli.doctor import doctor
from provisioner.cli.doctor.finding import Finding
from provisioner.core.errors import VolumeError
from provisioner.pool.pool import Pool
from provisioner.registry.registry import FILE_NAME
from provisioner.settings.pool import load_settings
from tests.support.commands import Called, Cli, make_volume, write_kernelspec
from tests.support.disks import SmallDisk


def _levels(called: Called) -> dict[str, str]:
    """Return the worst level of each subject."""
    order = ["ok", "info", "warn", "bad"]
    levels: dict[str, str] = {}
    for finding in called.json["findings"]:
        subject = finding["subject"]
        levels[subject] = max(levels.get(subject, "ok"), finding["level"], key=order.index)
    return levels


def _said(called: Called, level: str) -> str:
    found = called.json["findings"]
    return "\n".join(f"{f['said']} {f['cure']}" for f in found if f["level"] == level)


def test_a_sound_installation_has_nothing_bad(cli: Cli) -> None:
    make_volume("a")
    called = cli("doctor", "--json")

    assert called.code == 0
    assert set(_levels(called).values()) <= {"ok", "info"}
    assert {"Python", "jupyter_client", "provisioner", "jupyter", "settings", "root", "file system",
            "free space", "reserve", "files", "table", "kernelspec"} == set(_levels(called))  # fmt: skip
    assert "reflinks" in _said(called, "info")


def test_doctor_makes_no_files_and_each_finding_is_one_line(cli: Cli, root: Path) -> None:
    called = cli("doctor")

    assert called.code == 0
    assert all(line.split()[0] in {"ok", "info"} for line in called.out.splitlines())
    assert not root.exists()


def test_a_root_open_to_others_is_bad_until_it_is_repaired(cli: Cli, root: Path) -> None:
    make_volume("a")
    root.chmod(0o777)

    examined = cli("doctor")
    after_examination = root.stat().st_mode & 0o777
    repaired = cli("doctor", "--repair")

    assert examined.code == 1
    assert f"chmod 700 {root}" in examined.out
    assert after_examination == 0o777
    assert repaired.code == 0
    assert "cured root" in repaired.out
    assert root.stat().st_mode & 0o777 == 0o700


def test_a_root_that_is_a_link_or_a_file_is_bad_and_left_alone(cli: Cli, root: Path) -> None:
    root.symlink_to(root.parent)
    linked = cli("doctor", "--repair")
    root.unlink()
    root.write_text("")
    filed = cli("doctor", "--repair")

    assert (linked.code, filed.code) == (1, 1)
    assert "symbolic link" in linked.out
    assert "is not a directory" in filed.out
    assert root.read_text() == ""


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("no/such/volumes", "{above} does not exist"),
        ("file/volumes", "{above} is not a directory that you may write to"),
        ("closed/volumes", "{above} is not a directory that you may write to"),
    ],
)
def test_a_root_that_cannot_be_made_is_bad_before_a_kernel_tries(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, said: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "closed").mkdir()
    root = tmp_path / place
    monkeypatch.setenv("JUPYTER_VOLUMES_ROOT", str(root))
    # Replaced, because root, who may run this test, may write everywhere.
    access = os.access
    monkeypatch.setattr(
        "os.access", lambda path, mode: Path(path) != tmp_path / "closed" and access(path, mode)
    )

    called = cli("doctor")

    assert called.code == 1
    assert said.format(above=root.parent) in called.out
    assert not os.path.exists(root)


def test_a_root_with_other_files_is_never_closed_to_others(cli: Cli, root: Path) -> None:
    root.mkdir()
    root.chmod(0o755)
    (root / "homepage").mkdir()

    called = cli("doctor", "--repair")

    assert called.code == 1
    assert "set VolumePool.root to a directory of its own" in called.out
    assert "chmod" not in called.out
    assert root.stat().st_mode & 0o777 == 0o755


def test_spares_that_no_session_can_use_are_reported(cli: Cli, configuration: Path) -> None:
    settings = configuration / "jupyter_volumes_config.py"
    settings.write_text("c.VolumePool.spares = {'nope': 1, 'python3': 1, 'python3-volume': 1}")

    called = cli("doctor", "--json")

    said = [f["said"] for f in called.json["findings"] if f["subject"] == "spares"]
    assert called.code == 0
    assert len(said) == 2
    assert "There is no kernelspec 'nope'" in said[0]
    assert "'python3' gives no volume" in said[1]


def test_a_full_disk_stops_no_check_and_each_finding_has_its_cure(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SmallDisk(tmp_path / "disk", 3 << 20)
    disk.mount()
    try:
        root = disk.path / "volumes"
        monkeypatch.setenv("JUPYTER_VOLUMES_ROOT", str(root))
        make_volume("a")
        disk.fill()
        called = cli("doctor", "--json")
    finally:
        disk.unmount()

    assert called.code == 1
    assert called.err == ""
    levels = _levels(called)
    assert levels["free space"] == levels["files"] == "bad"
    assert {"table", "kernelspec"} <= set(levels)
    cannot = next(f for f in called.json["findings"] if f["subject"] == "files")
    assert f"No space left on device: {root}" in cannot["said"]
    assert cannot["cure"] == "free some space there"


@pytest.mark.parametrize(
    "error", [OSError(5, "Input/output error", "/a/file"), VolumeError("Input/output: /a/file.")]
)
@pytest.mark.parametrize(
    "check", ["installation", "root", "space", "reflinks", "table", "kernelspecs"]
)
def test_a_check_that_fails_is_one_finding_and_the_checks_after_it_go_on(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, check: str, error: Exception
) -> None:
    make_volume("a")

    def fail(*_: object) -> Iterator[Finding]:
        raise error

    monkeypatch.setattr(doctor, f"check_{check}", fail)
    called = cli("doctor", "--json")

    assert called.code == 1
    assert called.err == ""
    assert _said(called, "bad").count("/a/file") == 1
    assert check == "kernelspecs" or _levels(called)["kernelspec"] == "ok"
    assert check in {"root", "table"} or _levels(called)["table"] == "ok"


def _damage(table: Path, part: str) -> None:
    """Overwrite the first page of the table of volumes or of its index."""
    with contextlib.closing(sqlite3.connect(table)) as connection:
        page, size = connection.execute(
            "SELECT rootpage, page_size FROM sqlite_master, pragma_page_size "
            "WHERE type = ? AND tbl_name = 'volumes' AND sql IS NOT NULL",
            (part,),
        ).fetchone()
    content = bytearray(table.read_bytes())
    content[(page - 1) * size : page * size] = b"\xff" * size
    table.write_bytes(content)


@pytest.mark.parametrize("part", ["table", "index", "all"])
def test_a_damaged_or_missing_table_is_rebuilt_from_the_volumes(
    cli: Cli, root: Path, part: str
) -> None:
    acquired = make_volume("a", kept="this")
    if part == "all":
        for path in root.glob(f"{FILE_NAME}*"):
            path.unlink()
    else:
        _damage(root / FILE_NAME, part)

    examined = cli("doctor", "--json")
    is_still_missing = not (root / FILE_NAME).exists()
    repaired = cli("doctor", "--repair", "--json")

    assert examined.code == 1
    assert is_still_missing == (part == "all")
    assert _levels(examined)["table"] == "bad"
    assert repaired.code == 0, repaired.out
    assert (acquired.path / "kept").read_text() == "this"
    assert [volume["session"] for volume in cli("list", "--json").json] == ["a"]
    assert part == "all" or list(root.glob(f"{FILE_NAME}.damaged-*"))


def test_a_record_that_says_active_without_a_holder_is_corrected(cli: Cli) -> None:
    acquired = make_volume("a")
    pool = Pool(load_settings())
    pool.root.registry.volumes.activate(acquired.record.id, "python3-volume", pool.clock())

    examined = cli("doctor", "--json")
    repaired = cli("doctor", "--repair", "--json")

    assert "'a' is recorded as active, but nobody holds its lease" in _said(examined, "warn")
    assert _levels(repaired)["table"] == "ok"
    assert "volume" not in _levels(repaired)
    assert pool.root.registry.volumes.get(acquired.record.id) is not None


def test_a_volume_in_use_needs_no_repair(cli: Cli) -> None:
    pool = Pool(load_settings())
    held = pool.acquire("a", "python3-volume", kernel="k")

    called = cli("doctor", "--repair", "--json")
    state = cli("list", "--json").json[0]["state"]
    pool.release(held)

    assert called.json["repaired"] == []
    assert "volume" not in _levels(called)
    assert state == "active"


def test_a_directory_that_is_not_in_the_table_is_entered(cli: Cli) -> None:
    acquired = make_volume("a", kept="this")
    Pool(load_settings()).root.registry.volumes.forget(acquired.record.id)

    examined = cli("doctor", "--json")
    repaired = cli("doctor", "--repair", "--json")

    assert f"{acquired.path} is not in the table" in _said(examined, "warn")
    assert len(repaired.json["repaired"]) == 1
    assert cli("path", "a").out == f"{acquired.path}\n"


def test_a_volume_with_missing_files_frees_its_place_in_the_pool(cli: Cli, root: Path) -> None:
    acquired = make_volume("a")
    acquired.path.rename(root.parent / "moved")

    examined = cli("doctor", "--json")
    cli("doctor", "--repair")

    assert "the files of 'a' are gone" in _said(examined, "warn")
    assert Pool(load_settings()).root.registry.volumes.slots_taken() == 0


def test_a_lease_of_no_volume_is_removed(cli: Cli, root: Path) -> None:
    make_volume("a")
    orphan = root / "leases" / "v1-gone"
    orphan.touch()

    assert f"{orphan} belongs to no volume" in _said(cli("doctor", "--json"), "warn")
    assert cli("doctor", "--repair").code == 0
    assert not orphan.exists()


def test_settings_that_cannot_be_read_name_their_file(cli: Cli, configuration: Path) -> None:
    settings = configuration / "jupyter_volumes_config.py"
    settings.write_text("c.VolumePool.max_volumes = 0\n")
    wrong = cli("doctor", "--json")
    settings.write_text("c.VolumePool.enabled = False\n")
    disabled = cli("doctor", "--json")

    assert wrong.code == 1
    assert str(settings) in _said(wrong, "bad")
    assert disabled.code == 0
    assert "enabled is False" in _said(disabled, "warn")
    assert str(settings) in _said(disabled, "ok")


@pytest.mark.parametrize(
    ("argv", "config", "said"),
    [
        (["python"], {"launcher": "nope"}, "is not installed"),
        (["python"], {"workdri": "volume"}, "did you mean workdir?"),
        (["python"], {"workdir": "moon"}, "config.workdir is 'moon'"),
        (["python"], {"pyproject": "/no"}, "no pyproject.toml in /no"),
        (["/no/such/kernel"], {}, "'/no/such/kernel', which starts the kernel of 'mine'"),
        ([], {}, "argv"),
    ],
)
def test_a_kernelspec_whose_kernel_cannot_start_is_bad(
    cli: Cli, kernels: Path, argv: list[str], config: dict[str, Any], said: str
) -> None:
    """`test_kernelspec` has the other wrong options: `kernelspec add` refuses what is bad here."""
    write_kernelspec(kernels / "mine", config, argv=argv)

    called = cli("doctor", "--json")

    assert called.code == 1
    assert said in _said(called, "bad")


def test_relative_paths_are_not_checked(cli: Cli, kernels: Path) -> None:
    for number, config in enumerate(
        (
            {"requirements": "r.txt"},
            {"pyproject": "project"},
            {"nix_profile": "./flake"},
            {"nix_profile": "nix/shell.nix"},
        )
    ):
        write_kernelspec(kernels / f"mine{number}", config)

    assert cli("doctor").code == 0


def test_a_kernel_json_that_is_not_json_is_reported(cli: Cli, kernels: Path) -> None:
    write_kernelspec(kernels / "mine").write_text("{")

    assert "kernel.json cannot be read" in _said(cli("doctor", "--json"), "warn")


def test_a_jupyter_command_of_another_environment_is_reported(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other" / "jupyter"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(other.parent))

    assert f"{other} belongs to another environment than {sys.executable}" in _said(
        cli("doctor", "--json"), "warn"
    )
