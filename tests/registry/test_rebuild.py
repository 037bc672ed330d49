"""A table that is lost or damaged is rebuilt from what lies on disk; no file of a volume is lost or changed."""

from __future__ import annotations

import json
import os
import random
import re
import sqlite3
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from provisioner.core.errors import RegistryUnusable
from provisioner.core.record import Record, State
from provisioner.maintenance.sweep import sweep
from provisioner.pool.pool import Pool
from provisioner.registry.rebuild import Rebuilder
from provisioner.registry.registry import FILE_NAME, Registry
from provisioner.registry.schema import MIGRATIONS
from provisioner.settings.pool import VolumePool
from provisioner.system import lease as leases
from provisioner.system import volume_record
from provisioner.system.layout import Layout
from provisioner.system.lease import Holder, Purpose
from tests.support.children import Child
from tests.support.threads import at_once
from tests.support.world import Clock, World, content_of


def table(pool: Pool) -> Path:
    """Return the table's file."""
    return Path(pool.settings.root) / FILE_NAME


def rebuilder(
    pool: Pool, find_more: Callable[[Registry], None] = lambda registry: None
) -> Rebuilder:
    """Return what rebuilds the table of a pool."""
    return Rebuilder(Layout(pool.settings.root_path), pool.clock, find_more, lambda: False)


def told_of(records: list[Record]) -> dict[str, tuple[str, bool]]:
    """Return what must survive of each volume: its name, and whether it is pinned."""
    return {record.id: (record.session, record.pinned) for record in records}


def damaged_copies(pool: Pool) -> list[str]:
    """Return the names of damaged tables that were kept."""
    names = os.listdir(pool.settings.root)
    return [n for n in names if re.fullmatch(rf"{FILE_NAME}\.damaged-[0-9TZ]+\.[0-9a-f]+", n)]


@pytest.fixture
def world(root: Path) -> World:
    """Three volumes with files, one of them pinned, one renamed."""
    world = World(root)
    for session in ("/home/me/a.ipynb", "b 🧪", "../../etc"):
        world.use(session, file=session)
    world.pool.catalog.pin(world.record("b 🧪").id, True)
    world.pool.catalog.relabel(world.record("/home/me/a.ipynb").id, "/home/me/renamed.ipynb")
    return world


def all_content(pool: Pool) -> dict[str, dict[str, bytes]]:
    """Return all files of all volumes, by id."""
    return {path.name: content_of(path) for path in pool.root.layout.volumes.iterdir()}


def require_rebuilt(world: World, before: list[Record], files: object) -> None:
    """Require that a process that comes now finds all volumes, and their files as they were."""
    pool = world.new_pool()
    try:
        assert told_of(pool.volumes()) == told_of(before)
        assert all_content(pool) == files
        assert pool.root.registry.check_all() == []
        acquired = world.acquire("/home/me/renamed.ipynb", pool)
        assert (acquired.path / "file").read_text() == "/home/me/a.ipynb"
        pool.release(acquired)
    finally:
        pool.close()


def remove(path: Path) -> None:
    path.unlink()


def lose_table(world: World) -> None:
    world.pool.close()
    remove(table(world.pool))


def empty(path: Path) -> None:
    os.truncate(path, 0)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def overwrite(path: Path) -> None:
    path.write_bytes(b"this is no table at all" * 1000)


def drop_tables(path: Path) -> None:
    other = sqlite3.connect(path)
    other.executescript("DROP TABLE backups; DROP TABLE former_names; DROP TABLE volumes;")
    other.close()


def forget_version(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("PRAGMA user_version = 0")
    other.close()


@pytest.mark.parametrize("harm", [remove, empty, cut, overwrite, drop_tables, forget_version])
def test_a_lost_table_is_rebuilt_when_next_opened(
    world: World, harm: Callable[[Path], None]
) -> None:
    before, files = world.pool.volumes(), all_content(world.pool)
    world.pool.close()
    harm(table(world.pool))
    require_rebuilt(world, before, files)
    assert len(damaged_copies(world.pool)) == (harm is not remove)


@pytest.mark.parametrize("harm", [remove, empty, cut, overwrite, drop_tables])
def test_a_table_lost_while_it_is_open_is_rebuilt_in_the_same_call(
    world: World, harm: Callable[[Path], None]
) -> None:
    before, files = world.pool.volumes(), all_content(world.pool)
    other = world.new_pool()
    assert len(other.volumes()) == 3
    world.pool.root.registry.database.read("PRAGMA wal_checkpoint(TRUNCATE)", (), tuple)
    harm(table(world.pool))
    assert told_of(other.volumes()) == told_of(before)
    assert told_of(world.pool.volumes()) == told_of(before)
    acquired = world.acquire("new", other)
    assert world.record("new").id == acquired.record.id, "both processes must see one table"
    other.release(acquired)
    other.close()
    world.pool.prune(acquired.record.id, force=True)
    world.pool.close()
    require_rebuilt(world, before, files)


def test_a_table_damaged_anywhere_is_rebuilt_or_still_right(root: Path) -> None:
    """Bytes turned at random places: whatever is asked next is answered, with every volume and every file."""
    world = World(root)
    for number in range(40):
        world.use(f"session {number:02}", file=str(number))
    before, files = world.pool.volumes(), all_content(world.pool)
    world.pool.close()
    whole = table(world.pool).read_bytes()
    chance = random.Random(7)
    rebuilt = 0
    for _ in range(25):
        damaged = bytearray(whole)
        start = chance.randrange(len(whole))
        for place in range(start, min(start + chance.choice([40, 400, 6000]), len(whole))):
            damaged[place] = chance.randrange(256)
        table(world.pool).write_bytes(damaged)
        pool = world.new_pool()
        count = len(damaged_copies(pool))
        try:
            # Opening looks at the pages it needs; this is what follows when another one turns out to be damaged.
            rebuilder(pool).ensure(thorough=True)
            assert told_of(pool.volumes()) == told_of(before)
        finally:
            pool.close()
        rebuilt += len(damaged_copies(pool)) > count
        assert all_content(pool) == files
    assert rebuilt > 5


def test_a_rebuilt_volume_counts_as_changed_since_its_backup(world: World) -> None:
    """A process killed before it wrote the volume's own record may have changed files since."""
    record = world.record("../../etc")
    world.pool.back_up(record.id)
    assert world.record("../../etc").is_backed_up
    remove(table(world.pool))
    again = world.record("../../etc")
    assert again.generation > record.generation
    assert not again.is_backed_up
    backups = world.pool.backups.list(record.id)
    assert len(backups) == 1
    world.pool.backups.stored.verify(backups[0])
    assert not world.record("../../etc").is_backed_up


def test_what_lies_only_in_backups_is_known_again(world: World) -> None:
    record = world.record("../../etc")
    world.pool.back_up(record.id)
    world.pool.prune(record.id)
    lose_table(world)
    again = world.record("../../etc")
    assert (again.id, again.state) == (record.id, State.PRUNED)
    acquired = world.acquire("../../etc")
    assert (acquired.path / "file").read_text() == "../../etc"
    world.pool.release(acquired)


def test_a_volume_in_use_is_active_in_the_rebuilt_table(world: World) -> None:
    acquired = world.acquire("../../etc")
    remove(table(world.pool))
    assert world.record("../../etc").state is State.ACTIVE
    world.pool.release(acquired)
    assert world.record("../../etc").state is State.STOPPED


RECORDS: dict[str, object] = {
    "missing": None,
    "empty": b"",
    "no JSON": b"{",
    "no mapping": b"[]",
    "too deep": b"[" * 100_000,
    "no text": b"\xff\xfe",
    "of another volume": {"id": "v1-ffffffffffffffffffff"},
    "a path": {"id": "../../../etc"},
    "half a character": {"session": "\ud800"},
    "a line break": {"session": "a\nb"},
    "an empty name": {"session": ""},
    "a number for a name": {"session": 3},
    "a huge generation": {"generation": 10**40},
    "a negative generation": {"generation": -5},
    "an infinite generation": {"generation": float("inf")},
    "a day before all days": {"created": "0001-01-01T00:00:00+14:00"},
    "no day": {"created": "yesterday"},
    "half a kernelspec": {"kernelspec": "\ud800"},
}


@pytest.mark.parametrize("what", RECORDS)
def test_whatever_a_kernel_wrote_into_its_volumes_record_no_file_is_lost(
    world: World, what: str
) -> None:
    path = world.path("../../etc")
    own = path / ".volume" / "record.json"
    written = RECORDS[what]
    if written is None:
        own.unlink()
    elif isinstance(written, bytes):
        own.write_bytes(written)
    else:
        assert isinstance(written, dict)
        own.write_text(json.dumps({**json.loads(own.read_bytes()), **written}))
    lose_table(world)
    pool = world.new_pool()
    found = pool.root.registry.volumes.get(path.name)
    assert found is not None
    assert found.generation >= 1, "a volume that was never acquired would be thrown away"
    sweep(pool, deep=True)
    acquired = world.acquire(found.session, pool)
    assert acquired.path == path
    assert (path / "file").read_text() == "../../etc"
    pool.release(acquired)
    pool.close()


def test_a_pipe_in_the_place_of_a_volumes_record_keeps_nobody_waiting(world: World) -> None:
    own = world.path("../../etc") / ".volume" / "record.json"
    own.unlink()
    os.mkfifo(own)
    lose_table(world)
    with Child(lambda: len(world.new_pool().volumes())) as child:
        assert child.said() == "3"


def test_what_is_no_volume_is_left_alone(world: World, tmp_path: Path) -> None:
    volumes = world.pool.root.layout.volumes
    before = told_of(world.pool.volumes())
    (volumes / "a file").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (volumes / "link").symlink_to(tmp_path / "elsewhere")
    os.mkdir(os.fsencode(volumes) + b"/caf\xe9")
    lose_table(world)
    assert told_of(world.pool.volumes()) == before
    assert (volumes / "a file").read_text() == "mine"
    assert os.path.isdir(os.fsencode(volumes) + b"/caf\xe9")


def test_one_of_many_rebuilds_and_all_go_on_with_the_same_table(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    before = told_of(world.pool.volumes())
    pools = [world.new_pool() for _ in range(8)]
    for pool in pools:
        assert len(pool.volumes()) == 3
    remove(table(world.pool))
    found: list[dict[str, tuple[str, bool]]] = []
    together = threading.Barrier(len(pools))

    def look(pool: Pool) -> None:
        together.wait()
        found.append(told_of(pool.volumes()))

    at_once([partial(look, pool) for pool in pools])
    assert found == [before] * len(pools)
    assert len([m for m in caplog.messages if m.startswith("Rebuilt ")]) == 1
    assert not os.listdir(world.pool.root.layout.staging)
    for pool in pools:
        pool.close()


def test_a_rebuild_that_was_killed_is_begun_again(world: World) -> None:
    before = told_of(world.pool.volumes())
    world.pool.close()
    staging = world.pool.root.layout.staging
    world.pool.close()
    (staging / "registry.4711").write_text("half")
    (staging / "registry.4711-wal").write_text("half")
    remove(table(world.pool))
    assert told_of(world.pool.volumes()) == before
    assert os.listdir(staging) == []


def test_a_volume_pruned_in_the_midst_of_a_rebuild_keeps_its_name(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = world.record("../../etc")
    world.pool.back_up(record.id)
    path, trash = world.path("../../etc"), world.pool.files.trash
    lose_table(world)
    read_record = volume_record.read

    def prune_and_read(directory: Path) -> volume_record.VolumeRecord | None:
        if directory == path:
            trash.take(path)
        return read_record(directory)

    monkeypatch.setattr(volume_record, "read", prune_and_read)
    pool = world.new_pool()
    found = pool.root.registry.names.find("../../etc")
    assert found is not None
    assert (found.id, found.state) == (record.id, State.PRUNED)
    acquired = world.acquire("../../etc", pool)
    assert (acquired.path / "file").read_text() == "../../etc"
    pool.release(acquired)
    pool.close()


def test_a_rebuild_that_fails_leaves_nothing_behind(world: World) -> None:
    lose_table(world)

    def fail(fresh: Registry) -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        rebuilder(world.pool, fail).ensure(thorough=False)
    assert os.listdir(Path(world.settings.root, "staging")) == []
    assert len(world.pool.volumes()) == 3


def test_a_table_that_disappears_while_it_is_looked_at_is_rebuilt(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.pool.close()
    path, stat = table(world.pool), Path.stat

    def stat_and_remove(self: Path, **options: Any) -> os.stat_result:
        status = stat(self, **options)
        if self == path and status.st_size:
            monkeypatch.undo()
            remove(path)
        return status

    monkeypatch.setattr(Path, "stat", stat_and_remove)
    assert len(world.new_pool().volumes()) == 3


def test_what_rebuilding_would_not_cure_is_not_rebuilt(world: World) -> None:
    world.pool.close()
    newer = sqlite3.connect(table(world.pool))
    newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    newer.close()
    content = table(world.pool).read_bytes()
    pool = world.new_pool()
    with pytest.raises(RegistryUnusable, match="newer version"):
        pool.volumes()
    assert table(world.pool).read_bytes() == content
    assert damaged_copies(pool) == []


def test_a_backup_destination_out_of_reach_does_not_prevent_a_rebuild(root: Path) -> None:
    world = World(root, backup_destination="nonsense://nowhere/at/all")
    world.use("a", file="1")
    lose_table(world)
    assert world.record("a").state is State.STOPPED


def test_a_rebuild_that_another_process_does_not_end_is_waited_for_only_so_long(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_table(world)
    monkeypatch.setattr("provisioner.registry.rebuild._REBUILD_SECONDS", 0.1)
    lock = Path(world.settings.root) / "rebuild.lock"
    holder = Holder.this_process(Purpose.KERNEL, world.clock(), "other")
    held = leases.take(lock, holder, patience=lambda _: 0.0, cancel=threading.Event())
    assert held is not None
    with pytest.raises(RegistryUnusable, match="rebuilt by another process"):
        world.new_pool().volumes()
    held.release()
    assert len(world.pool.volumes()) == 3


def test_a_new_root_needs_no_rebuilding(root: Path, clock: Clock) -> None:
    pool = Pool(VolumePool(root=str(root)), clock)
    assert pool.volumes() == []
    assert damaged_copies(pool) == []
    assert sorted(os.listdir(root)) == [
        "leases",
        "rebuild.lock",
        "registry.sqlite3",
        "registry.sqlite3-shm",
        "registry.sqlite3-wal",
        "reserve",
        "staging",
        "trash",
        "volumes",
    ]
    pool.close()
