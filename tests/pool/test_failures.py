"""An acquire that fails gives back what it took, and says in one line why."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provisioner.core.errors import DiskFull, RegistryUnusable, VolumeError, VolumeHeld
from provisioner.core.record import State
from provisioner.pool.pool import Pool
from provisioner.registry.registry import FILE_NAME
from provisioner.settings.pool import VolumePool
from provisioner.system import lease as leases
from provisioner.system.lease import Purpose
from tests.support.disks import SmallDisk
from tests.support.pools import acquire, leftovers, raising_at, refusal
from tests.support.world import Clock


@pytest.mark.parametrize("step", ["enter", "lease", "leased", "files", "activate", "record"])
def test_an_acquire_that_fails_at_any_step_has_given_everything_back(
    root: Path, clock: Clock, step: str
) -> None:
    failing = Pool(VolumePool(root=str(root)), clock, raising_at(step, MemoryError()))
    with pytest.raises(MemoryError):
        acquire(failing)
    pool = Pool(failing.settings, clock)
    assert [record for record in pool.volumes() if record.state is State.ACTIVE] == []
    if step != "record":
        assert pool.root.registry.volumes.slots_taken() == 0
        pool.files.trash.empty()
        assert leftovers(pool) == []
    acquired = acquire(pool)
    assert pool.leases.is_held(acquired.record)
    pool.release(acquired)
    failing.close()
    pool.close()


def test_a_failed_acquire_of_an_existing_volume_leaves_its_files_alone(
    pool: Pool,
) -> None:
    acquired = acquire(pool)
    (acquired.path / "file").write_text("kept")
    pool.release(acquired)
    for step in ("lease", "leased", "files", "activate", "record"):
        failing = Pool(pool.settings, pool.clock, raising_at(step, MemoryError()))
        with pytest.raises(MemoryError):
            acquire(failing)
        failing.close()
        assert not pool.leases.is_held(acquired.record)
        assert (acquired.path / "file").read_text() == "kept"


def test_a_failed_acquire_of_a_shared_volume_keeps_it_for_the_others(pool: Pool) -> None:
    first = acquire(pool)
    pool.root.on_step = raising_at("activate", MemoryError())
    with pytest.raises(MemoryError):
        acquire(pool, kernel="k2")
    assert pool.leases.is_held(first.record)
    holder = pool.holder(first.record)
    assert holder is not None
    assert holder.kernels == ("k1",)
    pool.release(first)
    assert not pool.leases.is_held(first.record)


def test_a_lease_is_given_back_if_maintenance_cannot_begin(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquired = acquire(pool)
    pool.release(acquired)

    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with (
            pytest.raises(RuntimeError, match="new thread"),
            pool.leases.maintenance(acquired.record.id, Purpose.BACKUP),
        ):
            pass
    assert not pool.leases.is_held(acquired.record)
    pool.release(acquire(pool))


def test_something_in_the_way_of_a_volumes_directories_is_told(pool: Pool) -> None:
    acquired = acquire(pool)
    pool.release(acquired)
    way = acquired.path / ".volume"
    subprocess.run(["rm", "-rf", str(way)], check=True)
    way.write_text("a file of the user's")
    assert str(way) in refusal(VolumeError, lambda: acquire(pool))
    assert not pool.leases.is_held(acquired.record)


# -- a disk without a byte left ------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk of 40 MB."""
    disk = SmallDisk(tmp_path / "disk", 40 << 20)
    disk.mount()
    yield disk
    disk.unmount()


def test_a_table_that_is_lost_on_a_full_disk_is_rebuilt_in_the_space_kept_back(
    disk: SmallDisk, clock: Clock
) -> None:
    pool = Pool(VolumePool(root=str(disk.path / "volumes")), clock)
    pool.release(acquire(pool, "mine"))
    disk.fill()
    (pool.root.layout.root / FILE_NAME).unlink()
    assert [record.session for record in pool.volumes()] == ["mine"]
    pool.close()


def test_on_a_full_disk_people_reach_their_files_and_new_volumes_are_refused_cleanly(
    disk: SmallDisk, clock: Clock
) -> None:
    settings = VolumePool(root=str(disk.path / "volumes"))
    pool = Pool(settings, clock)
    acquired = acquire(pool, "mine")
    (acquired.path / "file").write_text("kept")
    pool.release(acquired)
    pool.close()
    disk.fill()
    again = Pool(settings, clock)
    mine = acquire(again, "mine")
    assert (mine.path / "file").read_text() == "kept"
    (mine.path / "file").unlink()
    again.release(mine)
    assert again.find("mine").generation == 2
    disk.fill()
    made = 0
    for number in range(200):
        try:
            again.release(acquire(again, f"new {number}", f"k{number}"))
            made += 1
            disk.fill()
        except (DiskFull, RegistryUnusable) as error:
            said = str(error)
            break
    else:
        pytest.fail("a disk without a byte left took 200 volumes")
    assert "full" in said
    assert "\n" not in said
    assert len(again.volumes()) == 1 + made
    assert leftovers(again) == []
    disk.drain()
    again.release(acquire(again, "new again", "k"))
    again.close()


def test_a_volume_deleted_just_before_maintenance_takes_its_lease_leaves_no_lease_behind(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquired = acquire(pool)
    pool.release(acquired)
    take = leases.take

    def deleted_first(*arguments: Any, **options: Any) -> leases.Lease | None:
        monkeypatch.setattr(leases, "take", take)
        Pool(pool.settings).delete(acquired.record.id)
        return take(*arguments, **options)

    monkeypatch.setattr(leases, "take", deleted_first)
    assert "was deleted meanwhile" in refusal(VolumeHeld, lambda: pool.prune(acquired.record.id))
    assert os.listdir(pool.root.layout.leases) == []
