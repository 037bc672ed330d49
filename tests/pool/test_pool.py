"""The one door to volumes: acquired, shared, released, refused."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from provisioner.core.errors import Cancelled, PoolDisabled, PoolFull, RootUnusable, VolumeHeld
from provisioner.core.event import Event, Kind
from provisioner.core.record import State
from provisioner.pool.pool import Pool, pool_of
from provisioner.settings.pool import VolumePool
from provisioner.system.lease import Holder, Lease
from tests.support.pools import HOLDER, acquire, leftovers, refusal, rename
from tests.support.processes import kill, line_of, running, tell
from tests.support.world import Clock

# -- the cases of the program that this one replaces ---------------------------------------------------------------


def test_a_new_pool_touches_nothing_until_a_volume_is_asked_for(root: Path) -> None:
    for enabled in (True, False):
        pool = Pool(VolumePool(root=str(root), enabled=enabled))
        assert pool.settings.enabled is enabled
        assert not root.exists()


def test_a_disabled_pool_refuses_and_makes_nothing(root: Path, clock: Clock) -> None:
    pool = Pool(VolumePool(root=str(root), enabled=False), clock)
    said = refusal(PoolDisabled, lambda: acquire(pool))
    assert "VolumePool.enabled = False" in said
    assert not root.exists()


def test_one_session_twice_is_one_volume(pool: Pool) -> None:
    first = acquire(pool)
    (first.path / "file").write_text("kept")
    pool.release(first)
    second = acquire(pool, kernel="k2")
    assert second.path == first.path
    assert (second.path / "file").read_text() == "kept"
    assert len(pool.volumes()) == 1
    pool.release(second)


def test_two_sessions_never_see_each_others_files(pool: Pool) -> None:
    first, second = acquire(pool, "a"), acquire(pool, "b", "k2")
    (first.path / "file").touch()
    assert os.listdir(second.path) == [".volume"]
    assert len(pool.volumes()) == 2
    pool.release(first)
    pool.release(second)


def test_capacity_is_kept_and_a_full_pool_names_what_could_be_freed(
    root: Path, clock: Clock
) -> None:
    pool = Pool(VolumePool(root=str(root), max_volumes=3), clock)
    used = [acquire(pool, f"s{number}", f"k{number}") for number in range(3)]
    pool.release(used[2])
    pool.catalog.pin(used[2].record.id, True)
    said = refusal(PoolFull, lambda: acquire(pool, "one more", "k9"))
    for part in (
        "All 3 slots",
        "'one more'",
        "2 in use, 1 pinned, 0 stopped",
        "unpin",
        "max_volumes",
    ):
        assert part in said
    assert pool.root.registry.names.find("one more") is None
    assert pool.root.registry.volumes.slots_taken() == 3
    assert len(os.listdir(pool.root.layout.volumes)) == 3
    assert leftovers(pool) == []
    again = acquire(pool, "s2", "k2")
    assert again.path == used[2].path, "a full pool keeps nobody from the files that are there"
    pool.root.registry.volumes.mark_pruned(again.record.id)
    assert pool.root.registry.volumes.slots_taken() == 2
    pool.close()


def test_what_is_acquired_tells_all_that_a_kernel_needs(pool: Pool, clock: Clock) -> None:
    acquired = acquire(pool)
    record = acquired.record
    assert (record.session, record.kernelspec, record.state) == ("a", "python3", State.ACTIVE)
    assert (record.generation, record.created, record.acquired) == (1, clock.now, clock.now)
    assert acquired.kernel == "k1"
    assert acquired.path == pool.path(record)
    assert acquired.path.stat().st_mode & 0o777 == 0o700
    assert acquired.path / ".volume" == acquired.path / ".volume"
    assert os.fstat(acquired.lease_fd).st_size > 0
    assert pool.catalog.names_of(str(acquired.path)) == {"a"}
    assert pool.catalog.names_of("/elsewhere") == pool.catalog.names_of("") == set()
    pool.release(acquired)
    with pytest.raises(AttributeError):
        acquired.kernel = "other"  # type: ignore[misc]  # that it is frozen is what is tested


def test_a_pool_shows_itself_without_secrets(root: Path) -> None:
    pool = Pool(VolumePool(root=str(root), env={"TOKEN": "hush-hush"}, max_volumes=7))
    assert "hush" not in repr(pool)
    assert "max_volumes=7" in repr(pool)
    assert "\n" not in repr(pool)


# -- in use, and no longer -----------------------------------------------------------------------------------------


def test_a_volume_is_active_while_in_use_and_stopped_after(pool: Pool, clock: Clock) -> None:
    acquired = acquire(pool)
    assert pool.find("a").state is State.ACTIVE
    assert pool.leases.is_held(acquired.record)
    clock.advance(hours=1)
    pool.release(acquired)
    record = pool.find("a")
    assert (record.state, record.stopped) == (State.STOPPED, clock.now)
    assert not pool.leases.is_held(record)
    assert pool.holder(record) is None


def test_releasing_twice_is_harmless_and_takes_nothing_from_the_next_use(pool: Pool) -> None:
    first = acquire(pool)
    pool.release(first)
    second = acquire(pool, kernel="k2")
    pool.release(first)
    assert pool.leases.is_held(second.record)
    pool.release(second)


def test_each_acquire_is_a_new_generation_and_the_volumes_own_record_says_so(pool: Pool) -> None:
    for generation in (1, 2, 3):
        acquired = acquire(pool)
        assert acquired.record.generation == generation
        assert (
            f'"generation": {generation}' in (acquired.path / ".volume" / "record.json").read_text()
        )
        pool.release(acquired)


def test_kernels_of_one_process_share_a_volume_until_the_last_has_gone(pool: Pool) -> None:
    """Lab's "Change kernel" starts the new kernel before it shuts the old one down."""
    first, second = acquire(pool), acquire(pool, kernel="k2")
    assert first.path == second.path
    assert first.lease_fd == second.lease_fd
    holder = pool.holder(first.record)
    assert holder is not None
    assert holder.kernels == ("k1", "k2")
    pool.release(first)
    assert pool.leases.is_held(first.record)
    pool.release(second)
    assert not pool.leases.is_held(first.record)


def test_another_process_is_refused_naming_the_holder_and_the_ways_out(pool: Pool) -> None:
    with running(HOLDER, str(pool.settings.root), "a") as other:
        assert line_of(other)
        said = refusal(VolumeHeld, lambda: acquire(pool))
        for part in (
            "'a'",
            f"process {other.pid}",
            os.uname().nodename,
            "theirs",
            "since 20",
            "acquire_timeout",
            "JUPYTER_VOLUME_SESSION",
        ):
            assert part in said
        assert pool.find("a").state is State.ACTIVE
        tell(other, "release")
        assert line_of(other) == "released"
        pool.release(acquire(pool))


def test_another_process_is_waited_for_as_long_as_the_settings_say(pool: Pool) -> None:
    pool.settings.acquire_timeout = timedelta(seconds=60)
    with running(HOLDER, str(pool.settings.root), "a") as other:
        path = line_of(other)
        timer = threading.Timer(0.2, tell, (other, "release"))
        timer.start()
        acquired = acquire(pool)
        timer.join()
        assert str(acquired.path) == path
        pool.release(acquired)


def test_a_wait_for_another_process_can_be_cancelled(pool: Pool) -> None:
    pool.settings.acquire_timeout = timedelta(seconds=60)
    cancel = threading.Event()
    with running(HOLDER, str(pool.settings.root), "a") as other:
        line_of(other)
        timer = threading.Timer(0.2, cancel.set)
        timer.start()
        began = time.monotonic()
        refusal(Cancelled, lambda: pool.acquire("a", "python3", kernel="k", cancel=cancel))
        timer.join()
        assert time.monotonic() - began < 30
        assert pool.find("a").state is State.ACTIVE


def test_a_killed_holder_keeps_nobody_out(pool: Pool) -> None:
    with running(HOLDER, str(pool.settings.root), "a") as other:
        path = Path(line_of(other))
        (path / "file").write_text("kept")
        kill(other)
    assert pool.find("a").state is State.STOPPED, "whatever its record says"
    acquired = acquire(pool)
    assert (acquired.path / "file").read_text() == "kept"
    pool.release(acquired)


def test_a_stopped_volume_whose_files_somebody_deleted_starts_empty(pool: Pool) -> None:
    acquired = acquire(pool)
    pool.release(acquired)
    subprocess.run(["rm", "-rf", str(acquired.path)], check=True)
    again = acquire(pool)
    assert os.listdir(again.path) == [".volume"]
    pool.release(again)


# -- events --------------------------------------------------------------------------------------------------------


def test_what_happens_is_told_and_a_subscriber_that_fails_harms_nobody(pool: Pool) -> None:
    told: list[Event] = []

    def fail(event: Event) -> None:
        raise RuntimeError(event.kind.value)

    pool.events.subscribe(fail)
    unsubscribe = pool.events.subscribe(told.append)
    acquired = acquire(pool)
    rename(pool, "a", "b")
    pool.release(acquired)
    pool.settings.enabled = False
    refusal(PoolDisabled, lambda: acquire(pool))
    unsubscribe()
    refusal(PoolDisabled, lambda: acquire(pool))
    kinds = [event.kind for event in told]
    assert kinds == [Kind.ACQUIRED, Kind.RELABELLED, Kind.RELEASED, Kind.REFUSED]
    assert told[0].details["new"] is True
    assert told[3].details["code"] == "disabled"


# -- one pool for a process ----------------------------------------------------------------------------------------


def test_all_kernels_of_a_process_share_one_pool_for_a_root(root: Path, tmp_path: Path) -> None:
    pool = pool_of(VolumePool(root=str(root)))
    newer = VolumePool(root=str(root), max_volumes=3)
    assert pool_of(newer) is pool
    assert pool.settings is newer
    assert pool_of(VolumePool(root=str(tmp_path / "other"))) is not pool


@pytest.mark.parametrize("made_by", [pool_of, Pool])
def test_a_fork_has_a_pool_of_its_own_and_its_end_releases_nothing(
    root: Path, made_by: Callable[[VolumePool], Pool]
) -> None:
    settings = VolumePool(root=str(root))
    pool = made_by(settings)
    acquired = acquire(pool)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert pool_of(settings) is not pool
            refusal(VolumeHeld, lambda: acquire(pool_of(settings)))
            pool.release(acquired)
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert pool.leases.is_held(acquired.record)
    assert pool.find("a").state is State.ACTIVE
    holder = pool.holder(acquired.record)
    assert holder is not None
    assert holder.kernels == ("k1",)
    pool.release(acquired)
    pool.close()


def test_a_root_that_cannot_be_used_is_refused_by_the_acquire(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refusal(RootUnusable, lambda: acquire(Pool(VolumePool(root=str(tmp_path / "file")))))


def test_two_uses_of_the_same_name_are_two_uses(pool: Pool) -> None:
    first, second = acquire(pool), acquire(pool)
    pool.release(first)
    assert pool.leases.is_held(first.record)
    pool.release(second)
    assert not pool.leases.is_held(first.record)


def test_a_kernel_that_is_added_while_another_one_is_noted_as_up_keeps_the_volume(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease's holder is read, changed and written by both."""
    first = acquire(pool, kernel="k1")
    others: list[threading.Thread] = []
    describe = Lease.describe

    def describe_late(lease: Lease, holder: Holder) -> None:
        if not others:
            others.append(threading.Thread(target=lambda: acquire(pool, kernel="k2")))
            others[0].start()
            others[0].join(0.3)
        describe(lease, holder)

    monkeypatch.setattr(Lease, "describe", describe_late)
    pool.kernel_is_up(first, os.getpid())
    others[0].join(60)
    pool.release(first)
    assert pool.leases.is_held(first.record)
