"""What is put into a stopped volume without a lease is never lost, though its generation says it is backed up."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from provisioner.errors import NotBackedUp, VolumeHeld
from provisioner.pool import Pool
from provisioner.record import State
from provisioner.seal import is_broken, seal
from provisioner.sweep import sweep
from provisioner.volume import state_directory

from .world import World, content_of


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "root")


def backed_up(world: World) -> Path:
    """Make a volume with a backup of its present generation; return its directory."""
    world.use("a", text="1")
    world.pool.back_up(world.record("a").id)
    assert world.record("a").is_backed_up
    return world.path("a")


def prune(world: World) -> None:
    """Prune, and wait for what that does in the background."""
    world.pool.prune(world.record("a").id)
    for thread in threading.enumerate():
        if thread.name == "empty-trash":
            thread.join()


def put_away(world: World) -> None:
    """Leave a prune half done, as a killed process does."""
    world.pool.trash.take(world.path("a"))
    world.pool.registry.mark_pruned(world.record("a").id)


def add(path: Path) -> None:
    (path / "added").write_bytes(b"2")


def change(path: Path) -> None:
    (path / "text").write_bytes(b"2")


def change_and_set_its_time_back(path: Path) -> None:
    status = (path / "text").stat()
    change(path)
    os.utime(path / "text", ns=(status.st_mtime_ns, status.st_mtime_ns))


def move_in(path: Path) -> None:
    old = path.parent.parent / "old"
    old.write_bytes(b"2")
    os.utime(old, (1_000_000_000, 1_000_000_000))
    old.rename(path / "moved")


def install(path: Path) -> None:
    below = state_directory(path) / "env" / "lib"
    below.mkdir(parents=True)
    (below / "module.py").write_bytes(b"2")


CHANGES = [add, change, change_and_set_its_time_back, move_in, install]


@pytest.mark.parametrize("by", CHANGES)
def test_an_explicit_backup_has_what_was_changed(world: World, by: Callable[[Path], None]) -> None:
    path = backed_up(world)
    by(path)
    before = {str(file): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    made = world.pool.back_up(world.record("a").id)
    assert made.generation == 2
    assert world.pool.back_up(world.record("a").id) == made, "and no second one of the same files"
    prune(world)
    world.pool.restore(world.record("a").id)
    after = {str(file): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    assert {name: after.get(name) for name in before if "/.volume/record" not in name} == {
        name: content for name, content in before.items() if "/.volume/record" not in name
    }


@pytest.mark.parametrize("by", CHANGES)
def test_a_prune_that_found_changed_files_is_undone(
    world: World, by: Callable[[Path], None]
) -> None:
    path = backed_up(world)
    by(path)
    before = {str(file) for file in path.rglob("*")}
    prune(world)
    assert {str(file) for file in path.rglob("*")} == before
    record = world.record("a")
    assert (record.state, record.is_backed_up, record.note) == (
        State.STOPPED,
        False,
        "changed after its backup, so not pruned",
    )
    world.clock.advance(days=30)
    sweep(world.pool)
    sweep(world.pool)
    assert not path.exists(), "backed up anew, it may go"


def test_a_prune_can_look_first_and_refuse(world: World) -> None:
    change(backed_up(world))
    with pytest.raises(NotBackedUp, match="make one with"):
        world.pool.prune(world.record("a").id, look_first=True)
    assert content_of(world.path("a")) == {"text": b"2"}


def test_an_eviction_and_a_restore_keep_what_was_changed(world: World, tmp_path: Path) -> None:
    backed_up(world)
    change(world.path("a"))
    world.pool.evict(world.record("a"))
    assert world.safe_content("a", tmp_path / "there") == {"text": b"2"}
    world.pool.restore(world.record("a").id)
    change(world.path("a"))
    (world.path("a") / "text").write_bytes(b"3")
    oldest = world.pool.backups(world.record("a").id)[-1]
    world.pool.restore(world.record("a").id, backup=oldest.name)
    assert content_of(world.path("a")) == {"text": b"1"}
    saved = world.pool.backups(world.record("a").id)[0]
    world.pool.restore_to(saved, tmp_path / "saved")
    assert content_of(tmp_path / "saved") == {"text": b"3"}


def test_what_was_brought_back_is_as_it_was_backed_up(world: World) -> None:
    backed_up(world)
    world.pool.prune(world.record("a").id)
    world.pool.restore(world.record("a").id)
    assert not is_broken(world.path("a"))
    world.pool.prune(world.record("a").id, look_first=True)
    assert not world.is_on_disk("a")


def test_changed_files_of_a_volume_that_is_in_use_again_get_a_volume_beside_it(
    world: World,
) -> None:
    path = backed_up(world)
    change(path)
    put_away(world)
    acquired = world.acquire("a")
    assert content_of(acquired.path) == {"text": b"1"}
    world.pool.empty_trash()
    assert content_of(world.path("a (2)")) == {"text": b"2"}
    assert content_of(acquired.path) == {"text": b"1"}


@pytest.mark.parametrize("step", ["put-back:counted", "put-back:renamed"])
def test_killed_while_putting_back_nothing_is_lost(world: World, step: str) -> None:
    path = backed_up(world)
    change(path)
    put_away(world)

    class Killed(BaseException):
        pass

    def kill(name: str) -> None:
        if name == step:
            raise Killed

    with pytest.raises(Killed):
        world.new_pool(kill).empty_trash()
    sweep(world.new_pool(), deep=True)
    assert content_of(path) == {"text": b"2"}
    record = world.record("a")
    assert record.has_files
    assert not record.is_backed_up


def test_half_deleted_files_are_not_taken_for_changed_ones(world: World) -> None:
    path = backed_up(world)
    (path / "more").write_text("x")
    world.pool.back_up(world.record("a").id)
    trash = world.pool.trash
    put_away(world)
    (name,) = trash.waiting()
    doomed = trash._doom(name)
    assert doomed is not None
    (doomed / "text").unlink()
    assert trash.changed() == []
    world.new_pool().empty_trash()
    assert world.leftovers() == []


def test_a_name_given_to_a_file_elsewhere_is_no_change_of_it(world: World, tmp_path: Path) -> None:
    path = backed_up(world)
    os.link(path / "text", tmp_path / "another name")
    assert not is_broken(path)


def test_a_time_to_come_is_no_change(tmp_path: Path) -> None:
    (tmp_path / ".volume").mkdir()
    seal(tmp_path)
    os.utime(tmp_path, (4_000_000_000, 4_000_000_000))
    assert not is_broken(tmp_path)


def test_pinning_and_renaming_are_no_changes(world: World) -> None:
    path = backed_up(world)
    world.pool.pin(world.record("a").id, True)
    world.pool.relabel(world.record("a").id, "b")
    assert not is_broken(path)


def test_a_volume_in_whose_directory_somebody_works_is_not_pruned(world: World) -> None:
    path = backed_up(world)
    code = "print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(VolumeHeld, match=f"process {process.pid} works in its directory"):
            world.pool.prune(world.record("a").id)
        process.communicate(b"\n")
    world.pool.prune(world.record("a").id)
    assert not world.is_on_disk("a")


def test_whoever_insists_deletes_changed_files_too(world: World) -> None:
    path = backed_up(world)
    change(path)
    world.pool.prune(world.record("a").id, force=True)
    world.pool.empty_trash()
    assert world.leftovers() == []
    assert not world.is_on_disk("a")


def test_a_pool_that_holds_no_changed_files_is_swept_without_looking(world: World) -> None:
    backed_up(world)
    looked: list[str] = []
    before = Pool(world.settings, world.clock, looked.append)
    sweep(before)
    assert not [step for step in looked if step.startswith(("backup", "put-back"))]
