"""The life of a volume after its kernel: backed up, pruned, brought back; again and again."""

from __future__ import annotations

import os
import shutil
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from provisioner.core.errors import (
    BackupDamaged,
    Cancelled,
    NotBackedUp,
    RestoreFailed,
    VolumeHeld,
)
from provisioner.core.event import Event, Kind
from provisioner.core.policy import Action
from provisioner.core.record import State
from provisioner.maintenance.sweep import sweep
from provisioner.system import lease as leases
from provisioner.system.lease import Holder, Purpose
from tests.support.pools import wait_for
from tests.support.world import World, content_of


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "root")


def test_ten_cycles_of_change_backup_prune_and_restore_keep_every_byte(world: World) -> None:
    for cycle in range(10):
        acquired = world.acquire("a")
        assert content_of(acquired.path) == world.written.get("a", {})
        world.write(acquired, f"new-{cycle}", os.urandom(1000))
        world.write(acquired, "changed", os.urandom(1000))
        world.pool.release(acquired)
        world.clock.advance(days=30)
        report = sweep(world.pool)
        assert [step.action for step in report.steps] == [Action.BACK_UP, Action.PRUNE]
        assert not world.is_on_disk("a")
    assert len(world.pool.backups.list()) == 3, "three backups are kept"


def test_a_stopped_volume_is_backed_up_when_due_and_not_before(world: World) -> None:
    world.use("a", text="x")
    world.clock.advance(minutes=9)
    assert sweep(world.pool).steps == ()
    world.clock.advance(minutes=1)
    assert [step.action for step in sweep(world.pool).steps] == [Action.BACK_UP]
    assert world.record("a").is_backed_up


def test_an_unchanged_generation_is_neither_backed_up_again_nor_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.use("a", text="x")
    first = world.pool.back_up(world.record("a").id)
    secret = world.path("a") / "text"
    opened: list[str] = []
    real = os.open

    def watching(path: str, *args: int, **kwargs: int | None) -> int:
        opened.append(str(path))
        return real(path, *args, **kwargs)  # type: ignore[arg-type]  # passed on as given

    monkeypatch.setattr(os, "open", watching)
    assert world.pool.back_up(world.record("a").id) == first
    world.clock.advance(days=1)
    sweep(world.pool)
    assert not [path for path in opened if path.endswith(secret.name)]


def test_every_acquire_counts_a_generation_that_needs_its_own_backup(world: World) -> None:
    world.use("a", text="x")
    world.pool.back_up(world.record("a").id)
    world.use("a")
    assert not world.record("a").is_backed_up
    with pytest.raises(NotBackedUp, match="jupyter volumes backup"):
        world.pool.prune(world.record("a").id)
    assert world.is_on_disk("a")


def test_a_pinned_volume_is_backed_up_but_never_pruned(world: World) -> None:
    world.use("a", text="x")
    world.pool.catalog.pin(world.record("a").id, True)
    world.clock.advance(days=1000)
    assert [step.action for step in sweep(world.pool).steps] == [Action.BACK_UP]
    assert world.is_on_disk("a")
    world.pool.catalog.pin(world.record("a").id, False)
    assert [step.action for step in sweep(world.pool).steps] == [Action.PRUNE]


def test_a_volume_in_use_is_neither_backed_up_nor_pruned(world: World) -> None:
    world.use("a", text="x")
    acquired = world.acquire("a")
    world.clock.advance(days=1000)
    assert sweep(world.pool).steps == ()
    for work in (world.pool.back_up, world.pool.prune, world.pool.restore, world.pool.delete):
        with pytest.raises(VolumeHeld, match="in use by"):
            work(acquired.record.id)
    assert world.is_on_disk("a")
    assert world.record("a").state is State.ACTIVE, "and the table goes on saying so"


def test_forcing_a_prune_deletes_files_without_a_backup_and_forgets_the_volume(
    world: World,
) -> None:
    world.use("a", text="x")
    volume_id, path = world.record("a").id, world.path("a")
    world.pool.prune(volume_id, force=True)
    assert not path.exists()
    assert world.pool.root.registry.names.find("a") is None
    assert not world.pool.root.layout.lease(volume_id).exists()


def test_deleting_a_volume_deletes_its_backups_too(world: World) -> None:
    world.use("a", text="x")
    world.pool.back_up(world.record("a").id)
    world.pool.delete(world.record("a").id)
    assert world.pool.backups.list() == []
    assert [n for n in os.listdir(world.settings.destination) if not n.startswith(".")] == []
    assert world.pool.root.registry.names.find("a") is None


# -- making room -----------------------------------------------------------------------------------------------


def test_an_evicted_volume_comes_back_with_its_files(tmp_path: Path) -> None:
    world = World(tmp_path / "root", max_volumes=1)
    world.use("a", text="of a")
    world.use("b", text="of b")
    assert not world.is_on_disk("a")
    assert world.record("a").state is State.PRUNED
    acquired = world.acquire("a")
    assert content_of(acquired.path) == world.written["a"]
    assert not world.is_on_disk("b")


def test_the_longest_stopped_unpinned_volume_makes_room(tmp_path: Path) -> None:
    world = World(tmp_path / "root", max_volumes=3)
    for session in ("pinned", "old", "new"):
        world.use(session, text=session)
        world.clock.advance(hours=1)
    world.pool.catalog.pin(world.record("pinned").id, True)
    events: list[Event] = []
    world.pool.events.subscribe(events.append)
    world.use("another")
    assert [s for s in ("pinned", "old", "new") if not world.is_on_disk(s)] == ["old"]
    assert [e.session for e in events if e.kind is Kind.EVICTED] == ["old"]


def test_a_sweep_keeps_headroom_so_that_a_person_need_not_wait(tmp_path: Path) -> None:
    world = World(tmp_path / "root", max_volumes=3, headroom=1)
    for session in "abc":
        world.use(session, text=session)
        world.clock.advance(seconds=1)
    report = sweep(world.pool)
    assert [(step.action, step.session) for step in report.steps] == [(Action.EVICT, "a")]
    assert world.pool.root.registry.volumes.slots_taken() == 2


def test_volumes_over_max_bytes_are_evicted_longest_stopped_first(tmp_path: Path) -> None:
    world = World(tmp_path / "root", max_bytes=3000)
    for session in "abc":
        world.use(session, text=session * 1000)
        world.pool.back_up(world.record(session).id)
        world.clock.advance(seconds=1)
    sweep(world.pool)
    assert [s for s in "abc" if world.is_on_disk(s)] == ["b", "c"]


# -- restoring -------------------------------------------------------------------------------------------------


def newest_backup(world: World, session: str) -> Path:
    backup = world.pool.backups.stored.newest(world.record(session))
    assert backup is not None
    return Path(world.settings.destination) / backup.name


def two_backups(world: World) -> None:
    world.use("a", text="older")
    world.pool.back_up(world.record("a").id)
    world.clock.advance(days=1)
    world.use("a", text="newer")
    world.pool.back_up(world.record("a").id)
    world.pool.prune(world.record("a").id)


def test_a_damaged_newest_backup_is_named_and_the_older_one_used_only_if_chosen(
    world: World,
) -> None:
    two_backups(world)
    damaged = newest_backup(world, "a")
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(BackupDamaged) as refusal:
        world.acquire("a")
    older = world.pool.backups.list(world.record("a").id)[1]
    assert damaged.name in str(refusal.value)
    assert f"--backup {older.name}" in str(refusal.value)
    assert not world.is_on_disk("a")
    world.pool.restore(world.record("a").id, backup=older.name)
    assert content_of(world.path("a")) == {"text": b"older"}
    assert not world.record("a").is_backed_up, "what was chosen needs a backup of its own"


def test_restoring_over_files_backs_them_up_first(world: World) -> None:
    world.use("a", text="older")
    older = world.pool.back_up(world.record("a").id)
    world.clock.advance(days=1)
    world.use("a", text="newer")
    world.pool.restore(world.record("a").id, backup=older.name)
    assert content_of(world.path("a")) == {"text": b"older"}
    saved = world.pool.backups.list(world.record("a").id)[0]
    world.pool.backups.stored.restore_to(saved, world.pool.root.layout.root / "elsewhere")
    assert content_of(world.pool.root.layout.root / "elsewhere") == {"text": b"newer"}


def test_restoring_to_another_place_touches_no_volume(world: World, tmp_path: Path) -> None:
    world.use("a", text="x")
    backup = world.pool.back_up(world.record("a").id)
    before = world.record("a")
    world.pool.backups.stored.restore_to(backup, tmp_path / "copy")
    assert content_of(tmp_path / "copy") == {"text": b"x"}
    assert world.record("a") == before
    with pytest.raises(RestoreFailed, match="exists already"):
        world.pool.backups.stored.restore_to(backup, tmp_path / "copy")


def test_a_restored_volume_is_not_pruned_again_at_the_next_sweep(world: World) -> None:
    two_backups(world)
    world.clock.advance(days=100)
    world.pool.restore(world.record("a").id)
    assert sweep(world.pool).steps == ()
    assert world.is_on_disk("a")


# -- never in the way ------------------------------------------------------------------------------------------


def test_acquiring_a_volume_under_backup_cancels_the_backup(world: World) -> None:
    acquired = world.acquire("a")
    for number in range(40):
        (acquired.path / str(number)).write_bytes(os.urandom(4_000_000))
    world.pool.release(acquired)
    began = threading.Event()
    outcome: list[BaseException] = []

    def back_up() -> None:
        try:
            world.new_pool().back_up(acquired.record.id, progress=lambda done, of: began.set())
        except BaseException as error:  # noqa: BLE001 - handed to the test
            outcome.append(error)

    worker = threading.Thread(target=back_up)
    worker.start()
    assert began.wait(30)
    world.pool.release(world.acquire("a"))
    worker.join(30)
    assert [type(error) for error in outcome] == [Cancelled]
    world.clock.advance(hours=1)
    sweep(world.pool)
    assert world.record("a").is_backed_up, "it is made again later"
    assert world.leftovers() == []


def test_a_sweep_passes_over_what_another_process_holds(world: World) -> None:
    world.use("a", text="x")
    path = world.pool.root.layout.lease(world.record("a").id)
    held = leases.take(
        path,
        Holder.this_process(Purpose.SHELL, world.clock()),
        patience=lambda _: 0,
        cancel=threading.Event(),
    )
    assert held is not None
    world.clock.advance(days=30)
    report = sweep(world.pool)
    assert [step.error is None for step in report.steps] == [False]
    assert world.is_on_disk("a")
    held.release()
    assert [step.error for step in sweep(world.pool).steps] == [None, None]


def test_one_process_sweeps_a_root_at_a_time(world: World) -> None:
    world.use("a", text="x")
    world.clock.advance(days=30)
    skipped: list[bool] = []
    world.pool.events.subscribe(lambda event: skipped.append(sweep(world.new_pool()).skipped))
    assert not sweep(world.pool).skipped
    assert skipped
    assert all(skipped)


def test_a_dry_run_tells_what_a_sweep_does_and_does_nothing(world: World) -> None:
    world.use("a", text="x")
    world.clock.advance(days=30)
    planned = sweep(world.pool, dry_run=True)
    assert [(s.action, s.session) for s in planned.steps] == [(Action.BACK_UP, "a")]
    assert "stopped for 30d" in planned.steps[0].reason
    assert world.pool.backups.list() == []


def test_a_kernelspec_may_have_a_policy_of_its_own(tmp_path: Path) -> None:
    policy = {"python3-volume": {"backup_after": "1h", "prune_after": "never"}}
    world = World(tmp_path / "root", kernelspec_policy=policy, backup_after=timedelta(minutes=1))
    world.use("a", text="x")
    world.clock.advance(minutes=59)
    assert sweep(world.pool).steps == ()
    world.clock.advance(days=1000)
    assert [step.action for step in sweep(world.pool).steps] == [Action.BACK_UP]
    assert world.is_on_disk("a")


def test_a_backup_that_fails_is_tried_again_later_and_nothing_is_pruned_meanwhile(
    tmp_path: Path,
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("no directory")
    world = World(tmp_path / "root", backup_destination=str(blocked))
    world.use("a", text="x")
    world.clock.advance(days=30)
    told: list[Event] = []
    world.pool.events.subscribe(told.append)
    report = sweep(world.pool)
    assert report.steps[0].error is not None
    assert [event.details["code"] for event in told if event.kind is Kind.FAILED] == [
        "backup-failed"
    ]
    assert world.is_on_disk("a")
    assert world.record("a").note.startswith("backup failed")
    assert sweep(world.pool).steps == (), "not tried again at once"
    blocked.unlink()
    world.clock.advance(minutes=2)
    assert [step.error for step in sweep(world.pool).steps] == [None, None]
    assert not world.is_on_disk("a")


def test_a_lost_table_finds_volumes_and_backups_again(world: World) -> None:
    two_backups(world)
    world.use("b", text="of b")
    world.pool.close()
    for left in world.pool.settings.root_path.glob("registry.sqlite3*"):
        left.unlink()
    again = World(world.settings.root_path)
    assert again.record("a").state is State.PRUNED
    acquired = again.acquire("a")
    assert content_of(acquired.path) == {"text": b"newer"}
    assert content_of(again.path("b")) == {"text": b"of b"}


def test_backups_move_along_with_their_root(tmp_path: Path) -> None:
    world = World(tmp_path / "here")
    world.use("a", text="x")
    world.pool.back_up(world.record("a").id)
    world.pool.prune(world.record("a").id)
    wait_for(lambda: not os.listdir(world.pool.root.layout.trash))
    world.pool.close()
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    for root in ("there", "here"):
        moved = World(tmp_path / root)
        (backup,) = moved.pool.backups.list()
        assert backup.destination == str(tmp_path / root / "backups")
        moved.pool.backups.stored.verify(backup)
        assert content_of(moved.acquire("a").path) == {"text": b"x"}
        if root == "there":  # what is deleted in the copy stays in the other
            moved.pool.backups.stored.drop(backup)


def test_backups_that_were_moved_with_their_destination_are_found_there(tmp_path: Path) -> None:
    world = World(tmp_path / "root", backup_destination=str(tmp_path / "old"))
    world.use("a", text="x")
    world.pool.back_up(world.record("a").id)
    world.pool.prune(world.record("a").id)
    (tmp_path / "old").rename(tmp_path / "new")
    moved = World(tmp_path / "root", backup_destination=str(tmp_path / "new"))
    assert content_of(moved.acquire("a").path) == {"text": b"x"}


def test_a_backup_whose_process_was_killed_is_tried_again_later(world: World) -> None:
    record = world.use("a", text="x")
    (world.pool.root.layout.staging / f"{record.id}.backup").mkdir()
    world.pool.backups.note_killed("its process was killed")
    noted = world.record("a")
    assert (noted.failures, noted.note) == (1, "backup failed: its process was killed")
    assert noted.retry is not None
    assert noted.retry > world.clock()


def test_a_volume_moved_to_another_disk_behind_a_link_is_no_difference(
    world: World, tmp_path: Path
) -> None:
    world.use("a", text="x")
    path = world.path("a")
    path.rename(tmp_path / "other disk")
    path.symlink_to(tmp_path / "other disk")
    assert list(world.pool.differences.on_disk()) == []


def test_odd_entries_among_the_leases_stop_no_sweep(world: World) -> None:
    world.use("a", text="x")
    leases = world.pool.root.layout.leases
    (leases / "directory").mkdir()
    (leases / "link").symlink_to(leases / "directory")
    world.clock.advance(minutes=11)
    assert [step.error for step in sweep(world.pool, deep=True).steps] == [None]
    assert world.record("a").is_backed_up
