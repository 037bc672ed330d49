"""What is put into a stopped volume without a lease is never lost, though its generation says it is backed up."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from provisioner.core.errors import NotBackedUp, VolumeHeld
from provisioner.core.record import State
from provisioner.maintenance.sweep import sweep
from provisioner.pool import fingerprint, trash
from provisioner.pool.fingerprint import has_changed
from provisioner.system.layout import state_directory
from provisioner.system.processes import processes_working_in
from tests.support.pools import raising_at
from tests.support.processes import line_of, running
from tests.support.world import World, content_of


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "root")


WORKING_IN = "import os, sys; os.chdir(sys.argv[1]); print(flush=True); input()"


def backed_up(world: World) -> Path:
    """Make a volume with a backup of its present generation; return its directory."""
    world.use("a", text="1")
    world.pool.back_up(world.record("a").id)
    assert world.record("a").is_backed_up
    return world.path("a")


def prune(world: World, *, force: bool = False) -> None:
    """Prune, and wait for what that does in the background."""
    world.pool.prune(world.record("a").id, force=force)
    for thread in threading.enumerate():
        if thread.name == "empty-trash":
            thread.join()


def put_away(world: World) -> None:
    """Leave a prune half done, as a killed process does."""
    world.pool.files.trash.take(world.path("a"), look=True)
    world.pool.root.registry.volumes.mark_pruned(world.record("a").id)


def test_a_volume_that_another_process_deletes_meanwhile_does_not_count_as_changed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the sweep would count up its generation, and no backup would be of that."""
    backed_up(world)
    put_away(world)
    digest = fingerprint._digest

    def deleted_while_it_is_read(volume: Path, exclude: Iterable[str]) -> str:
        doomed = volume.rename(volume.with_name(volume.name + ".doomed"))
        (doomed / "text").unlink()
        return digest(doomed, exclude)

    monkeypatch.setattr(fingerprint, "_digest", deleted_while_it_is_read)
    before = world.record("a").generation
    sweep(world.pool)
    assert world.record("a").generation == before
    assert world.pool.files.trash.waiting() == []


def test_changed_files_are_put_back_before_others_are_deleted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleting may take minutes, and the volume may be asked for meanwhile."""
    add(backed_up(world))
    put_away(world)
    world.use("0", text="x")  # sorted before the other
    world.pool.files.trash.take(world.path("0"))
    seen = []

    def remove(path: Path) -> None:
        seen.append(world.is_on_disk("a"))
        shutil.rmtree(path)

    monkeypatch.setattr(trash, "remove", remove)
    world.pool.files.empty_trash()
    assert seen == [True]


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


def files_of(path: Path) -> dict[str, bytes]:
    """Return what a session has in its volume, its environment too."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and file.parent != state_directory(path)
    }


CHANGES = [add, change, change_and_set_its_time_back, move_in, install]


@pytest.mark.parametrize("by", CHANGES)
def test_an_explicit_backup_has_what_was_changed(world: World, by: Callable[[Path], None]) -> None:
    path = backed_up(world)
    by(path)
    before = files_of(path)
    made = world.pool.back_up(world.record("a").id)
    assert made.generation == 2
    assert world.pool.back_up(world.record("a").id) == made, "and no second one of the same files"
    prune(world)
    world.pool.restore(world.record("a").id)
    assert files_of(path) == before


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
    world.pool.capacity.evict(world.record("a").id)
    assert world.safe_content("a", tmp_path / "there") == {"text": b"2"}
    world.pool.restore(world.record("a").id)
    change(world.path("a"))
    (world.path("a") / "text").write_bytes(b"3")
    oldest = world.pool.backups.list(world.record("a").id)[-1]
    world.pool.restore(world.record("a").id, backup=oldest.name)
    assert content_of(world.path("a")) == {"text": b"1"}
    saved = world.pool.backups.list(world.record("a").id)[0]
    world.pool.backups.stored.restore_to(saved, tmp_path / "saved")
    assert content_of(tmp_path / "saved") == {"text": b"3"}


def test_what_was_brought_back_is_as_it_was_backed_up(world: World) -> None:
    backed_up(world)
    world.pool.prune(world.record("a").id)
    world.pool.restore(world.record("a").id)
    assert not has_changed(world.path("a"))
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
    world.pool.files.empty_trash()
    assert content_of(world.path("a (2)")) == {"text": b"2"}
    assert content_of(acquired.path) == {"text": b"1"}


@pytest.mark.parametrize("step", ["put-back:counted", "put-back:renamed"])
def test_killed_while_putting_back_nothing_is_lost(world: World, step: str) -> None:
    path = backed_up(world)
    change(path)
    put_away(world)
    with pytest.raises(SystemExit):
        world.new_pool(raising_at(step, SystemExit())).files.empty_trash()
    sweep(world.new_pool(), deep=True)
    assert content_of(path) == {"text": b"2"}
    record = world.record("a")
    assert record.has_files
    assert not record.is_backed_up


def test_half_deleted_files_are_not_taken_for_changed_ones(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = backed_up(world)
    (path / "more").write_text("x")
    world.pool.back_up(world.record("a").id)
    put_away(world)

    def delete_half(path: Path) -> None:
        (path / "text").unlink()
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(trash, "remove", delete_half)
        with pytest.raises(SystemExit):
            world.pool.files.empty_trash()
    assert world.leftovers() != []
    world.new_pool().files.empty_trash()
    assert not world.is_on_disk("a")
    assert world.leftovers() == []


def test_a_name_given_to_a_file_elsewhere_is_no_change_of_it(world: World, tmp_path: Path) -> None:
    path = backed_up(world)
    os.link(path / "text", tmp_path / "another name")
    assert not has_changed(path)


def test_the_clock_does_not_matter(world: World) -> None:
    path = backed_up(world)
    far = 4_000_000_000
    os.utime(path, (far, far))
    os.utime(state_directory(path) / "sealed", (far, far))
    assert not has_changed(path)
    change(path)
    assert has_changed(path)


def test_a_volume_that_lost_its_state_directory_is_taken_for_changed(world: World) -> None:
    path = backed_up(world)
    shutil.rmtree(state_directory(path))
    add(path)
    prune(world)
    assert content_of(path) == {"text": b"1", "added": b"2"}


def test_only_the_volumes_own_state_directory_is_passed_over(world: World) -> None:
    world.use("a", **{"project/.volume/data": "1"})
    world.pool.back_up(world.record("a").id)
    (world.path("a") / "project" / ".volume" / "data").write_bytes(b"2")
    assert has_changed(world.path("a"))


@pytest.mark.parametrize("what", ["fifo", "directory", "link", "unwritable", "nonsense"])
def test_whatever_is_put_in_the_seals_place_backups_and_prunes_go_on(
    world: World, what: str
) -> None:
    path = backed_up(world)
    sealed = state_directory(path) / "sealed"
    sealed.unlink()
    if what == "fifo":
        os.mkfifo(sealed)
    elif what == "directory":
        (sealed / "below").mkdir(parents=True)
    elif what == "link":
        sealed.symlink_to("/dev/zero")
    else:
        sealed.write_text("[1]")
        sealed.chmod(0o400)
    change(path)
    prune(world)
    world.clock.advance(days=30)
    sweep(world.pool)
    world.clock.advance(days=30)
    sweep(world.pool)
    assert not path.exists()
    assert world.pool.files.trash.waiting() == []


def test_what_a_backup_leaves_out_may_change(tmp_path: Path) -> None:
    world = World(tmp_path / "root", backup_exclude=["scratch"])
    world.use("a", **{"text": "1", "scratch/x": "1", "cache/x": "1"})
    path = world.path("a")
    (path / "cache" / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n")
    world.pool.back_up(world.record("a").id)
    for name in ("scratch/y", "cache/y", "cache/x"):
        (path / name).write_text("2")
    assert not has_changed(path)
    prune(world)
    assert not path.exists()


def test_what_is_put_where_a_pruned_volume_was_becomes_a_volume_beside_it(world: World) -> None:
    path = backed_up(world)
    prune(world)
    path.mkdir()
    (path / "results").write_bytes(b"late")
    acquired = world.acquire("a")
    assert content_of(acquired.path) == {"text": b"1"}
    assert content_of(world.path("a (2)")) == {"results": b"late"}
    assert not world.record("a (2)").is_backed_up


def test_a_sweep_finds_what_was_put_where_a_pruned_volume_was(world: World) -> None:
    path = backed_up(world)
    prune(world)
    path.mkdir()
    (path / "results").write_bytes(b"late")
    for _ in range(2):
        sweep(world.new_pool(), deep=True)
    assert world.record("a").state is State.PRUNED
    assert content_of(world.path("a (2)")) == {"results": b"late"}
    assert len(world.pool.volumes()) == 2


def test_killed_again_and_again_beside_there_is_one_volume_beside(world: World) -> None:
    path = backed_up(world)
    acquired = world.acquire("a")
    waiting = world.pool.root.layout.trash / f"{path.name}.0123abcd"
    shutil.copytree(path, waiting)
    change(waiting)
    for _ in range(3):
        with pytest.raises(SystemExit):
            world.new_pool(raising_at("put-back:counted", SystemExit())).files.empty_trash()
    world.new_pool().files.empty_trash()
    world.new_pool().files.empty_trash()
    assert {record.session for record in world.pool.volumes()} == {"a", "a (2)"}
    assert content_of(world.path("a (2)")) == {"text": b"2"}
    world.pool.release(acquired)


def test_a_volume_deeper_than_any_path_is_looked_at_too(world: World) -> None:
    path = backed_up(world)
    fd = os.open(path, os.O_RDONLY)
    for _ in range(60):
        os.mkdir("d" * 100, dir_fd=fd)
        below = os.open("d" * 100, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    assert world.pool.back_up(world.record("a").id).generation == 2
    assert not has_changed(path)
    prune(world)
    assert not path.exists()


def test_somebody_who_came_through_a_link_is_seen_working_there(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "volume").mkdir()
    with running(WORKING_IN, str(tmp_path / "link" / "volume")) as process:
        line_of(process)
        assert processes_working_in(tmp_path / "link" / "volume") == [process.pid]


def test_pinning_and_renaming_are_no_changes(world: World) -> None:
    path = backed_up(world)
    world.pool.catalog.pin(world.record("a").id, True)
    world.pool.catalog.relabel(world.record("a").id, "b")
    assert not has_changed(path)


def test_a_volume_in_whose_directory_somebody_works_is_not_pruned(world: World) -> None:
    path = backed_up(world)
    with running(WORKING_IN, str(path)) as process:
        line_of(process)
        with pytest.raises(VolumeHeld, match=f"process {process.pid} works in its directory"):
            world.pool.prune(world.record("a").id)
    world.pool.prune(world.record("a").id)
    assert not world.is_on_disk("a")


def test_whoever_insists_deletes_changed_files_too(world: World) -> None:
    path = backed_up(world)
    change(path)
    prune(world, force=True)
    assert world.leftovers() == []
    assert not world.is_on_disk("a")


def test_a_pool_that_holds_no_changed_files_is_swept_without_looking(world: World) -> None:
    backed_up(world)
    looked: list[str] = []
    sweep(world.new_pool(looked.append))
    assert not [step for step in looked if step.startswith(("backup", "put-back"))]
