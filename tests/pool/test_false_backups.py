"""What looks like a backup of the present state and is none lets nothing be pruned."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from provisioner.core.errors import BackupMissing, NotBackedUp
from provisioner.core.event import Event, Kind
from provisioner.maintenance.sweep import sweep
from tests.support.disks import SmallDisk
from tests.support.world import World, content_of


def test_backups_of_a_lost_root_never_pass_for_those_of_its_successor(tmp_path: Path) -> None:
    shared = str(tmp_path / "backups")
    first = World(tmp_path / "first", backup_destination=shared)
    for text in ("old 1", "old 2", "old 3"):
        first.use("a", text=text)
        first.pool.back_up(first.record("a").id)
        first.clock.advance(days=1)
    second = World(tmp_path / "second", backup_destination=shared)
    second.clock.now = first.clock.now
    acquired = second.acquire("a")
    assert content_of(acquired.path) == {"text": b"old 3"}, "what was lost comes back"
    second.write(acquired, "text", b"new")
    second.pool.release(acquired)
    for backup in second.pool.backups.list():
        second.pool.backups.stored.verify(backup)
    with pytest.raises(NotBackedUp):
        second.pool.prune(acquired.record.id)
    second.clock.advance(days=30)
    sweep(second.pool, deep=True)
    assert not second.is_on_disk("a")
    again = second.acquire("a")
    assert content_of(again.path) == {"text": b"new"}


def test_a_backup_that_has_gone_no_longer_counts(tmp_path: Path) -> None:
    world = World(tmp_path / "root")
    world.use("a", text="x")
    backup = world.pool.back_up(world.record("a").id)
    (Path(world.settings.destination) / backup.name).unlink()
    with pytest.raises(NotBackedUp):
        world.pool.prune(world.record("a").id)
    assert not world.record("a").is_backed_up
    world.clock.advance(days=30)
    sweep(world.pool)
    acquired = world.acquire("a")
    assert content_of(acquired.path) == {"text": b"x"}


def test_a_backup_whose_disk_is_not_mounted_is_remembered_and_nothing_starts_empty(
    tmp_path: Path,
) -> None:
    disk = tmp_path / "disk"
    world = World(tmp_path / "root", backup_destination=str(disk / "backups"))
    world.use("a", text="x")
    backup = world.pool.back_up(world.record("a").id)
    world.pool.prune(world.record("a").id)
    disk.rename(tmp_path / "not mounted")
    with pytest.raises(BackupMissing, match=r"is its disk mounted\?"):
        world.pool.backups.stored.verify(backup)
    assert not world.record("a").is_backed_up
    with pytest.raises(BackupMissing, match=r"mounted\?\. There is no older backup"):
        world.acquire("a")
    (tmp_path / "not mounted").rename(disk)
    assert content_of(world.acquire("a").path) == {"text": b"x"}


def test_a_clock_set_back_brings_back_the_newest_state_and_one_backup_a_sweep(
    tmp_path: Path,
) -> None:
    world = World(tmp_path / "root", keep_backups=10)
    world.clock.advance(days=10)
    for text in ("1", "2", "3"):
        world.use("a", text=text)
        world.pool.back_up(world.record("a").id)
        world.clock.advance(hours=1)
    world.clock.now -= timedelta(days=10)
    world.use("a", text="newest")
    world.clock.advance(hours=1)
    assert len(sweep(world.pool).steps) == 1
    world.pool.prune(world.record("a").id)
    acquired = world.acquire("a")
    assert content_of(acquired.path) == {"text": b"newest"}


def test_a_volume_pinned_while_it_is_being_evicted_stays(tmp_path: Path) -> None:
    world = World(tmp_path / "root")
    world.use("a", text="x")
    record = world.record("a")

    def pin(event: Event) -> None:
        if event.kind is Kind.BACKED_UP:
            world.new_pool().catalog.pin(record.id, True)

    world.pool.events.subscribe(pin)
    with pytest.raises(NotBackedUp, match="pinned"):
        world.pool.capacity.evict(record.id)
    assert world.is_on_disk("a")


def test_pruning_makes_room_on_a_full_disk(tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path / "disk", 60_000_000)
    disk.mount()
    try:
        world = World(disk.path / "root", backup_destination=str(tmp_path / "backups"))
        world.use("big", text="x" * 5_000_000)
        world.pool.back_up(world.record("big").id)
        disk.fill()
        world.pool.prune(world.record("big").id)
        world.pool.files.trash.empty()
        world.use("small", text="y")
        assert world.is_on_disk("small")
        world.pool.close()
    finally:
        disk.unmount()
