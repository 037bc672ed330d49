"""The table's file: shared, versioned, and what people are told when it is not as it should be."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import threading
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from provisioner.core.errors import RegistryUnusable
from provisioner.registry import database
from provisioner.registry.faults import is_damage
from provisioner.registry.rebuild import set_aside
from provisioner.registry.registry import Registry
from provisioner.registry.schema import MIGRATIONS
from tests.support.children import Child
from tests.support.disks import SmallDisk
from tests.support.processes import line_of, running, tell
from tests.support.tables import NOW
from tests.support.threads import at_once


def refusal(path: Path, create: bool = False) -> str:
    """Return the one line with which a file is refused as a table."""
    with pytest.raises(RegistryUnusable) as caught:
        Registry(path, create=create).volumes.all()
    said = str(caught.value)
    assert "\n" not in said
    assert str(path) in said
    return said


# -- shared among threads, processes and forks ---------------------------------------------------------------------


def test_the_file_is_in_wal_mode_and_fully_synchronous(registry: Registry, path: Path) -> None:
    other = sqlite3.connect(path)
    assert other.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    other.close()
    modes = registry.database.read("PRAGMA synchronous", (), tuple)
    assert modes[0][0] == 2


def test_threads_share_one_table(registry: Registry) -> None:
    def work(number: int) -> None:
        for serial in range(20):
            volume_id = f"v1-{number}-{serial}"
            registry.volumes.create(volume_id, volume_id, "python3", NOW, 1000)
            registry.volumes.activate(volume_id, "python3", NOW)

    at_once([partial(work, number) for number in range(8)])
    assert [r.generation for r in registry.volumes.all()] == [1] * 160


LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
input()
connection.execute("COMMIT")
"""


def test_a_table_that_another_process_keeps_locked_is_told_plainly(
    registry: Registry, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(LOCK, str(path)) as other:
        assert line_of(other) == "locked"
        assert registry.volumes.all() == [], "reading must not wait for a writer"
        monkeypatch.setattr(database, "PATIENCE", timedelta(milliseconds=100))
        with pytest.raises(RegistryUnusable, match="locked by another process for 0 s") as caught:
            registry.volumes.create("v1-0", "a", "python3", NOW, 5)
        monkeypatch.undo()
        assert not is_damage(caught.value)
        assert "fuser" in str(caught.value)
        timer = threading.Timer(0.1, tell, (other,))
        timer.start()
        registry.volumes.create("v1-0", "a", "python3", NOW, 5)
        timer.join()


def test_a_fork_opens_the_table_for_itself_and_loses_nothing_when_its_parent_goes(
    registry: Registry, path: Path
) -> None:
    """SQLite's locks do not cross a fork: a child that used its parent's would lose what it writes."""
    registry.volumes.create("v1-0", "a", "python3", NOW, 50)
    read, write = os.pipe()

    def work() -> int:
        os.close(write)
        assert registry.names.find("a") is not None
        os.read(read, 1)
        for number in range(1, 20):
            registry.volumes.create(f"v1-{number}", f"of the child {number}", "python3", NOW, 50)
        return 19

    with Child(work) as child:
        os.close(read)
        registry.volumes.create("v1-p", "of the parent", "python3", NOW, 50)
        # The parent's last close folds the log into the file and deletes it, unless the child is seen.
        registry.close()
        os.close(write)
        assert child.said() == "19"
    again = Registry(path)
    assert len(again.volumes.all()) == 21
    assert again.check_all() == []
    again.close()


# -- versions ------------------------------------------------------------------------------------------------------


def test_a_table_of_a_newer_version_is_refused_untouched(registry: Registry, path: Path) -> None:
    registry.volumes.create("v1-0", "a", "python3", NOW, 5)
    registry.close()
    newer = sqlite3.connect(path)
    newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    newer.close()
    before = path.read_bytes()
    said = refusal(path)
    assert "newer version" in said
    assert "pip install -U" in said
    assert path.read_bytes() == before


def test_an_older_table_is_led_to_this_version_with_its_records(
    registry: Registry, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = registry.volumes.create("v1-0", "a", "python3", NOW, 5)
    registry.close()
    step = "ALTER TABLE volumes ADD COLUMN colour TEXT DEFAULT 'red';\nCREATE INDEX c ON volumes (colour);\n"
    monkeypatch.setattr("provisioner.registry.database.MIGRATIONS", (*MIGRATIONS, step))
    newer = Registry(path)
    assert newer.names.find("a") == made
    assert newer.database.read("SELECT colour FROM volumes", (), tuple)[0][0] == "red"
    assert newer.database.read("PRAGMA user_version", (), tuple)[0][0] == len(MIGRATIONS) + 1
    newer.close()


def test_a_migration_that_fails_leaves_the_older_table_whole(
    registry: Registry, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = registry.volumes.create("v1-0", "a", "python3", NOW, 5)
    registry.close()
    with monkeypatch.context() as patch:
        step = "ALTER TABLE volumes ADD COLUMN colour TEXT;\nNONSENSE"
        patch.setattr("provisioner.registry.database.MIGRATIONS", (*MIGRATIONS, step))
        assert "failed" in refusal(path)
    again = Registry(path)
    assert again.names.find("a") == made
    assert again.database.read("PRAGMA user_version", (), tuple)[0][0] == len(MIGRATIONS)
    again.close()


# -- what is wrong with the file -----------------------------------------------------------------------------------


def test_a_missing_file_or_a_directory_in_its_place_is_told_and_not_made(path: Path) -> None:
    assert "cannot be opened" in refusal(path)
    assert not path.exists()
    assert "cannot be opened" in refusal(path.parent / "none" / "registry.sqlite3", create=True)
    path.mkdir()
    assert "cannot be opened" in refusal(path)


def test_a_read_only_file_system_is_told(tmp_path: Path) -> None:
    with SmallDisk(tmp_path / "disk", 1 << 20) as disk:
        path = disk.path / "registry.sqlite3"
        Registry(path, create=True).close()
        subprocess.run(["mount", "-o", "remount,ro", str(disk.path)], check=True)
        assert "read-only" in refusal(path)


def enter_many(registry: Registry) -> None:
    """Enter more than a full disk has room for."""
    for number in range(1, 100):
        registry.volumes.create(f"v1-{number}", f"{number}" * 1000, "python3", NOW, 500)


def test_a_full_disk_is_told_and_nothing_half_written(tmp_path: Path) -> None:
    with SmallDisk(tmp_path / "disk", 1 << 20) as disk:
        path = disk.path / "registry.sqlite3"
        registry = Registry(path, create=True)
        registry.volumes.create("v1-0", "a", "python3", NOW, 5)
        disk.fill()
        with pytest.raises(RegistryUnusable, match="disk full"):
            enter_many(registry)
        assert registry.names.find("a") is not None, "a full disk keeps nobody from reading"
        registry.close()
        disk.drain()
        again = Registry(path)
        assert again.names.find("a") is not None
        assert again.check_all() == []
        again.close()


def test_a_full_disk_is_relieved_for_as_long_as_there_is_something_to_give_up(
    tmp_path: Path,
) -> None:
    with SmallDisk(tmp_path / "disk", 8 << 20) as disk:
        gifts = [disk.path / f"gift {number}" for number in range(3)]
        for size, gift in zip((6 << 20, 8192, 4096), gifts, strict=True):
            gift.write_bytes(bytes(size))
        path = disk.path / "registry.sqlite3"
        Registry(path, create=True).close()
        disk.fill()

        def relieve() -> bool:
            if gifts:
                gifts.pop().unlink()
                return True
            return False

        registry = Registry(path, relieve=relieve)
        assert len(gifts) < 3, "it cannot even be opened on a full disk"
        enter_many(registry)
        assert len(registry.volumes.all()) == 99
        assert gifts == []
        registry.close()


# -- replaced by a rebuilt one -------------------------------------------------------------------------------------


def replace_by_another(path: Path) -> None:
    """Put another table, with one volume, into the place of one, as a rebuild in another process does."""
    aside = path.with_name("another")
    other = Registry(aside, create=True)
    other.volumes.create("v1-other", "of the rebuilt table", "python3", NOW, 5)
    other.close()
    set_aside(path, NOW)
    aside.replace(path)


def test_a_table_that_is_replaced_while_it_is_being_opened_is_not_used_for_the_new_one(
    registry: Registry, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.close()
    connect = sqlite3.connect
    replaced: list[Path] = []

    def connect_and_replace(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        if not replaced:
            replaced.append(path)
            replace_by_another(path)
        return connection

    monkeypatch.setattr("provisioner.registry.database.sqlite3.connect", connect_and_replace)
    opened = Registry(path)
    assert [record.id for record in opened.volumes.all()] == ["v1-other"]
    opened.close()


def test_what_is_written_while_the_table_is_replaced_is_written_to_the_new_one(
    registry: Registry, path: Path
) -> None:
    replaced: list[Path] = []

    def work(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE volumes SET pinned = 1")
        if not replaced:
            replaced.append(path)
            replace_by_another(path)

    registry.database.write(work)
    assert [(record.id, record.pinned) for record in registry.volumes.all()] == [("v1-other", True)]


# -- what is wrong with the content --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"not a database", b"x" * 8192, b"SQLite format 3\0" + b"\xff" * 4080]
)
def test_what_is_no_table_is_told_as_damage(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(RegistryUnusable, match="is damaged") as caught:
        Registry(path)
    assert is_damage(caught.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize("table", ["volumes", "former_names", "backups", "totals"])
def test_a_missing_part_of_the_table_is_damage(registry: Registry, path: Path, table: str) -> None:
    registry.close()
    other = sqlite3.connect(path)
    other.execute(f"DROP TABLE {table}")
    other.commit()
    other.close()
    (said,) = registry.check_all()
    assert "is damaged" in said


def test_nonsense_in_a_row_is_damage_and_found_by_the_thorough_check(
    registry: Registry, path: Path
) -> None:
    registry.volumes.create("v1-0", "a", "python3", NOW, 5)
    other = sqlite3.connect(path)
    other.execute("UPDATE volumes SET created = 1e300")
    other.commit()
    other.close()
    with pytest.raises(RegistryUnusable) as caught:
        registry.volumes.all()
    assert is_damage(caught.value)
    assert len(registry.check_all()) == 1
