"""The process apart is begun by interpreters of all kinds: what is odd about one's surroundings spoils no backup."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import provisioner

SOURCE = Path(provisioner.__file__).parent

BACK_UP = """
import sys
sys.path = [entry for entry in sys.path if entry]
import dataclasses, json, os, selectors, threading, zstandard
from datetime import datetime, timezone
from pathlib import Path
package, volume, backups, *closed = sys.argv[1:]
sys.path.insert(0, package)
from provisioner.backup.format.manifest import About
from provisioner.backup.destinations.urls import destination_for
from provisioner.backup.operation import gently, write_backup
about = About("vol-1", "s", "k", 1, datetime.now(timezone.utc))
for stream in map(int, closed):
    os.close(stream)
with gently():
    made = write_backup(Path(volume), destination_for(backups), about, cancel=threading.Event())
assert made.size > 8 << 20, "large enough to be checked apart, too"
"""

BROKEN = "raise ImportError('not this one')"


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A volume whose backup is checked by a process too."""
    top = tmp_path / "volume"
    top.mkdir()
    (top / "large").write_bytes(os.urandom(12 << 20))
    return top


def back_up(
    volume: Path,
    *closed: int,
    options: tuple[str, ...] = (),
    env: Mapping[str, str] | None = None,
    package: Path = SOURCE.parent,
    cwd: Path | None = None,
) -> list[str]:
    """Back up gently in an interpreter of its own; return the names of the backups there are then."""
    backups = volume.parent / "backups"
    arguments = [str(part) for part in (package, volume, backups, *closed)]
    subprocess.run(
        [sys.executable, *options, "-c", BACK_UP, *arguments],
        env={**os.environ, **(env or {})},
        cwd=cwd,
        check=True,
    )
    return os.listdir(backups)


@pytest.mark.parametrize("closed", [(0,), (0, 1), (1, 2), (0, 1, 2)], ids=str)
def test_whoever_has_no_standard_streams_makes_backups_too(
    volume: Path, closed: tuple[int, ...]
) -> None:
    assert len(back_up(volume, *closed)) == 1


def test_what_an_interpreter_prints_at_its_start_spoils_nothing(
    tmp_path: Path, volume: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('{\"welcome\": true}')")
    assert len(back_up(volume, env={"PYTHONPATH": str(tmp_path)})) == 1


@pytest.mark.parametrize("option", ["-I", "-E"])
def test_an_interpreter_kept_from_its_environment_keeps_the_process_from_it(
    tmp_path: Path, volume: Path, option: str
) -> None:
    (tmp_path / "json.py").write_text(BROKEN)
    assert len(back_up(volume, options=(option,), env={"PYTHONPATH": str(tmp_path)})) == 1


def test_files_beside_the_package_and_where_people_work_hide_no_part_of_the_library(
    tmp_path: Path, volume: Path
) -> None:
    site, work = tmp_path / "site", tmp_path / "work"
    shutil.copytree(SOURCE, site / "provisioner")
    work.mkdir()
    for directory in (site, work):
        (directory / "selectors.py").write_text(BROKEN)
        (directory / "dataclasses.py").write_text(BROKEN)
    (work / "zstandard.py").write_text(BROKEN)
    assert len(back_up(volume, cwd=work, package=site)) == 1


def test_it_is_the_package_of_whoever_asks_that_works(tmp_path: Path, volume: Path) -> None:
    other = tmp_path / "other" / "provisioner"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text(BROKEN)
    assert len(back_up(volume, env={"PYTHONPATH": str(other.parent)})) == 1


FEW_FILES = """
import os, resource, sys, threading
from datetime import datetime, timezone
from pathlib import Path
from provisioner.backup.format.manifest import About
from provisioner.backup.destinations.urls import destination_for
from provisioner.backup.operation import gently, write_backup
from provisioner.core.errors import BackupFailed
volume, backups = sys.argv[1:]
most = resource.getrlimit(resource.RLIMIT_NOFILE)
def open_files():
    return sorted(int(name) for name in os.listdir("/dev/fd") if os.path.exists(f"/dev/fd/{name}"))
def back_up(generation):
    about = About("vol-1", "s", "k", generation, datetime.now(timezone.utc))
    with gently():
        write_backup(Path(volume), destination_for(backups), about, cancel=threading.Event())
back_up(1)  # all modules are loaded
before, refused = open_files(), []
for limit in range(before[-1] + 1, 200):
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most[1]))
    try:
        back_up(limit)
        break
    except BackupFailed as error:
        refused.append(str(error))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, most)
    assert open_files() == before, limit
    assert len(os.listdir(backups)) == 1, limit
# The first ones fail at the backup's own file.
assert set(refused[3:]) == {
    "no process could be started for the backup: Too many open files; try again later"
}
assert len(os.listdir(backups)) == 2, "the last one was made"
"""


def test_where_few_files_may_be_open_backups_fail_in_one_line_and_leave_nothing_open(
    tmp_path: Path, volume: Path
) -> None:
    subprocess.run([sys.executable, "-c", FEW_FILES, volume, tmp_path / "backups"], check=True)
