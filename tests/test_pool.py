"""The one door to volumes: acquired, shared, released, refused."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from provisioner import lease as leases
from provisioner.config import VolumePool
from provisioner.errors import (
    BadSession,
    Cancelled,
    DiskFull,
    PoolDisabled,
    PoolFull,
    RegistryUnusable,
    RootUnusable,
    VolumeError,
    VolumeHeld,
    VolumeNotFound,
)
from provisioner.event import Event, Kind
from provisioner.lease import Lease, Purpose
from provisioner.pool import Acquired, Pool, pool_of
from provisioner.record import State
from provisioner.session import VOLUME_VARIABLE, Clues, choose
from provisioner.sweep import sweep

from .disks import SmallDisk
from .processes import kill, line_of, running, tell
from .upkeep.world import Clock

HOLDER = """
import os, sys
from provisioner.config import VolumePool
from provisioner.pool import Pool
pool = Pool(VolumePool(root=sys.argv[1]))
acquired = pool.acquire(sys.argv[2], "python3", kernel="theirs")
print(acquired.path, flush=True)
for line in sys.stdin:
    if line == "release\\n":
        pool.release(acquired)
        print("released", flush=True)
"""


def acquire(pool: Pool, session: str = "a", kernel: str = "k1") -> Acquired:
    """Acquire as a kernel does."""
    return pool.acquire(session, "python3", kernel=kernel)


def refusal(kind: type[VolumeError], work: Callable[[], object]) -> str:
    """Return the one line with which something is refused."""
    with pytest.raises(kind) as caught:
        work()
    said = str(caught.value)
    assert "\n" not in said
    return said


def leftovers(pool: Pool) -> list[str]:
    """Return what lies under the root although no volume needs it."""
    layout = pool.layout
    ids = {record.id for record in pool.registry.volumes()}
    return sorted(
        f"{directory.name}/{name}"
        for directory in layout.directories
        for name in os.listdir(directory)
        if name not in ids
    )


def living_in(path: Path, seconds: float = 60) -> subprocess.Popen[bytes]:
    """Start a process that lives in a volume, as far as its environment says."""
    return subprocess.Popen(
        [sys.executable, "-c", f"import time; print(flush=True); time.sleep({seconds})"],
        env={**os.environ, VOLUME_VARIABLE: str(path)},
        stdout=subprocess.PIPE,
    )


@pytest.fixture
def left_behind() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes to be ended when the test is over."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def wait_for(what: Callable[[], bool]) -> None:
    """Wait until something is so; fail if it never is."""
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.01)


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
    assert (first.is_new, second.is_new) == (True, False)
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
    pool.pin(used[2].record.id, True)
    said = refusal(PoolFull, lambda: acquire(pool, "one more", "k9"))
    for part in ("All 3 places", "'one more'", "2 in use", "1 pinned", "unpin", "max_volumes"):
        assert part in said
    assert pool.registry.places_taken() == 3
    assert len(os.listdir(pool.layout.volumes)) == 3
    assert leftovers(pool) == []
    again = acquire(pool, "s2", "k2")
    assert not again.is_new, "a full pool keeps nobody from the files that are there"
    pool.registry.mark_pruned(again.record.id)
    assert pool.registry.places_taken() == 2
    pool.close()


def test_what_is_acquired_tells_all_that_a_kernel_needs(pool: Pool, clock: Clock) -> None:
    acquired = acquire(pool)
    record = acquired.record
    assert (record.session, record.kernelspec, record.state) == ("a", "python3", State.ACTIVE)
    assert (record.generation, record.created, record.acquired) == (1, clock.now, clock.now)
    assert acquired.kernel == "k1"
    assert acquired.path == pool.path(record)
    assert acquired.path.stat().st_mode & 0o777 == 0o700
    assert acquired.state_directory == acquired.path / ".volume"
    assert os.fstat(acquired.lease_fd).st_size > 0
    assert pool.names_of(str(acquired.path)) == {"a"}
    assert pool.names_of("/elsewhere") == pool.names_of("") == set()
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
    assert pool.is_in_use(acquired.record)
    clock.advance(hours=1)
    pool.release(acquired)
    record = pool.find("a")
    assert (record.state, record.stopped) == (State.STOPPED, clock.now)
    assert not pool.is_in_use(record)
    assert pool.holder(record) is None


def test_releasing_twice_is_harmless_and_takes_nothing_from_the_next_use(pool: Pool) -> None:
    first = acquire(pool)
    pool.release(first)
    second = acquire(pool, kernel="k2")
    pool.release(first)
    assert pool.is_in_use(second.record)
    pool.release(second)


def test_each_acquire_is_a_new_generation_and_the_volumes_own_record_says_so(pool: Pool) -> None:
    for generation in (1, 2, 3):
        acquired = acquire(pool)
        assert acquired.record.generation == generation
        assert (
            f'"generation": {generation}' in (acquired.state_directory / "record.json").read_text()
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
    assert pool.is_in_use(first.record)
    pool.release(second)
    assert not pool.is_in_use(first.record)


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


# -- processes left behind -----------------------------------------------------------------------------------------


def test_processes_left_behind_keep_the_volume_in_use_and_are_named(
    pool: Pool, left_behind: list[subprocess.Popen[bytes]]
) -> None:
    acquired = acquire(pool)
    process = living_in(acquired.path)
    left_behind.append(process)
    assert process.stdout is not None
    process.stdout.readline()
    pool.release(acquired)
    record = pool.find("a")
    assert record.state is State.ACTIVE
    holder = pool.holder(record)
    assert holder is not None
    assert holder.purpose is Purpose.LEFT_BEHIND
    assert holder.processes == (process.pid,)
    other = Pool(pool.settings)
    assert str(process.pid) in refusal(VolumeHeld, lambda: acquire(other))
    process.kill()
    process.wait()
    wait_for(lambda: not pool.is_in_use(record))
    assert pool.find("a").state is State.STOPPED
    pool.release(acquire(pool))
    other.close()


def test_the_same_process_may_use_the_volume_beside_those_left_behind(
    pool: Pool, left_behind: list[subprocess.Popen[bytes]]
) -> None:
    acquired = acquire(pool)
    first = living_in(acquired.path)
    left_behind.append(first)
    assert first.stdout is not None
    first.stdout.readline()
    pool.release(acquired)
    again = acquire(pool, kernel="k2")
    holder = pool.holder(again.record)
    assert holder is not None
    assert holder.purpose is Purpose.KERNEL, "a kernel holds it now"
    second = living_in(acquired.path)
    left_behind.append(second)
    assert second.stdout is not None
    second.stdout.readline()
    pool.release(again)
    first.kill()
    first.wait()
    with pytest.raises(AssertionError, match="never came"):
        deadline_free(pool, again)
    second.kill()
    second.wait()
    wait_for(lambda: not pool.is_in_use(again.record))


def deadline_free(pool: Pool, acquired: Acquired) -> None:
    """Fail if a volume stays in use for half a second."""
    deadline = time.monotonic() + 0.5
    while pool.is_in_use(acquired.record):
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.01)


def test_those_whom_a_killed_server_left_behind_keep_the_volume_from_the_next(
    pool: Pool, left_behind: list[subprocess.Popen[bytes]]
) -> None:
    with running(HOLDER, str(pool.settings.root), "a") as other:
        path = Path(line_of(other))
        process = living_in(path)
        left_behind.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        kill(other)
    for _ in range(2):
        assert f"processes {process.pid} " in refusal(VolumeHeld, lambda: acquire(pool))
    process.kill()
    process.wait()
    pool.release(acquire(pool))


def test_a_sweep_asks_for_no_volume_that_is_in_use(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking takes a twentieth of a second for each: with hundreds of kernels, a sweep would take half a minute."""
    used = [acquire(pool, f"s{number}", f"k{number}") for number in range(3)]
    asked: list[str] = []
    take = leases.take

    def counting(path: Path, *arguments: Any, **options: Any) -> Lease | None:
        asked.append(path.name)
        return take(path, *arguments, **options)

    monkeypatch.setattr(leases, "take", counting)
    other = Pool(pool.settings)
    sweep(other)
    assert asked == []
    pool.release(used[0])
    pool.registry.activate(used[0].record.id, "python3", pool.clock())
    sweep(other)
    assert used[0].record.id in asked, "its record says active while nobody holds it"
    assert not {used[1].record.id, used[2].record.id} & set(asked)
    for acquired in used[1:]:
        pool.release(acquired)
    other.close()


# -- names ---------------------------------------------------------------------------------------------------------


def test_a_renamed_volume_is_found_under_both_names_and_keeps_its_files(pool: Pool) -> None:
    acquired = acquire(pool, "old.ipynb")
    (acquired.path / "file").write_text("kept")
    renamed = pool.rename("old.ipynb", "new.ipynb")
    assert renamed is not None
    assert renamed.session == "new.ipynb"
    assert '"session": "new.ipynb"' in (acquired.state_directory / "record.json").read_text()
    pool.release(acquired)
    assert pool.names_of(str(acquired.path)) == {"old.ipynb", "new.ipynb"}
    assert pool.find("old.ipynb") == pool.find("new.ipynb") == pool.find(acquired.record.id)
    again = acquire(pool, "new.ipynb")
    assert again.path == acquired.path
    pool.release(again)


def test_a_new_notebook_under_a_former_name_has_a_volume_of_its_own(pool: Pool) -> None:
    first = acquire(pool, "a.ipynb")
    pool.rename("a.ipynb", "b.ipynb")
    second = acquire(pool, "a.ipynb", "k2")
    assert second.path != first.path
    assert pool.find("a.ipynb").id == second.record.id
    pool.release(first)
    pool.release(second)


def test_a_copied_notebook_has_a_volume_of_its_own(pool: Pool) -> None:
    original = acquire(pool, "a.ipynb")
    (original.path / "file").touch()
    copy = acquire(pool, "a-Copy1.ipynb", "k2")
    assert os.listdir(copy.path) == [".volume"]
    pool.release(original)
    pool.release(copy)


def test_a_stopped_volume_under_the_new_name_is_moved_aside_not_lost(pool: Pool) -> None:
    for number, session in enumerate(("a.ipynb", "b.ipynb")):
        acquired = acquire(pool, session, f"k{number}")
        (acquired.path / "file").write_text(session)
        pool.release(acquired)
    moved = pool.rename("a.ipynb", "b.ipynb")
    assert moved is not None
    assert (pool.path(moved) / "file").read_text() == "a.ipynb"
    aside = pool.find("b.ipynb (2)")
    assert (pool.path(aside) / "file").read_text() == "b.ipynb"
    assert pool.find("b.ipynb").id == moved.id


def test_a_name_in_use_is_not_taken_away(pool: Pool) -> None:
    first, second = acquire(pool, "a"), acquire(pool, "b", "k2")
    assert pool.rename("a", "b") is None
    assert pool.find("a").id == first.record.id
    pool.release(first)
    pool.release(second)


def test_renaming_nothing_does_nothing(pool: Pool) -> None:
    assert pool.rename("none", "other") is None
    assert pool.volumes() == []
    acquired = acquire(pool, "a")
    assert pool.rename("a", "a") == pool.find("a")
    pool.release(acquired)


@pytest.mark.parametrize("name", ["", "a\nb", "a\0b", "\ud800", "x" * 5000], ids=ascii)
def test_a_volume_cannot_be_given_a_name_that_no_session_has(pool: Pool, name: str) -> None:
    acquired = acquire(pool, "a")
    refusal(BadSession, lambda: pool.rename("a", name))
    assert pool.find("a").id == acquired.record.id
    pool.release(acquired)


def test_a_session_unknown_is_told_with_those_that_are_near(pool: Pool) -> None:
    pool.release(acquire(pool, "report.ipynb"))
    said = refusal(VolumeNotFound, lambda: pool.find("raport.ipynb"))
    assert "did you mean 'report.ipynb'" in said
    refusal(VolumeNotFound, lambda: pool.find("\udcff\0" * 3000))


HOSTILE = [
    "",
    "a" * 10_000,
    "../../etc",
    "/etc/passwd",
    "..",
    ".",
    "a\0b",
    "a\nb",
    "🧪",
    "CON",
    "/home/somebody-else/notes.ipynb",
    "\ud800",
    "caf\udce9",
    "-rf",
    "$(reboot)",
    "*",
    "~root",
    "a" * 4096,
]


@pytest.mark.parametrize("session", HOSTILE, ids=lambda session: ascii(session[:20]))
def test_no_name_leads_out_of_the_root(pool: Pool, tmp_path: Path, session: str) -> None:
    before = sorted(p for p in tmp_path.rglob("*") if "volumes" not in p.parts)
    try:
        acquired = acquire(pool, choose(Clues("k", caller=session)).name)
    except BadSession:
        refusal(BadSession, lambda: acquire(pool, session))
        assert not pool.layout.root.exists() or pool.volumes() == []
        return
    assert acquired.path.parent == pool.layout.volumes
    assert acquired.path.name.startswith("v1-")
    (acquired.path / "file").write_text(session)
    pool.release(acquired)
    again = acquire(pool, session)
    assert (again.path / "file").read_text() == session
    pool.release(again)
    assert sorted(p for p in tmp_path.rglob("*") if "volumes" not in p.parts) == before


# -- events --------------------------------------------------------------------------------------------------------


def test_what_happens_is_told_and_a_subscriber_that_fails_harms_nobody(pool: Pool) -> None:
    told: list[Event] = []

    def fail(event: Event) -> None:
        raise RuntimeError(event.kind.value)

    pool.events.subscribe(fail)
    unsubscribe = pool.events.subscribe(told.append)
    acquired = acquire(pool)
    pool.rename("a", "b")
    pool.release(acquired)
    pool.settings.enabled = False
    refusal(PoolDisabled, lambda: acquire(pool))
    unsubscribe()
    refusal(PoolDisabled, lambda: acquire(pool))
    kinds = [event.kind for event in told]
    assert kinds == [Kind.ACQUIRED, Kind.RELABELLED, Kind.RELEASED, Kind.REFUSED]
    assert told[0].details["new"] is True
    assert told[3].details["code"] == "disabled"


# -- what fails gives back what it took ----------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["enter", "lease", "leased", "files", "activate", "record"])
def test_an_acquire_that_fails_at_any_step_has_given_everything_back(
    root: Path, clock: Clock, step: str
) -> None:
    def fail(name: str) -> None:
        if name == step:
            raise MemoryError(name)

    failing = Pool(VolumePool(root=str(root)), clock, on_step=fail)
    with pytest.raises(MemoryError):
        acquire(failing)
    pool = Pool(failing.settings, clock)
    assert [record for record in pool.volumes() if record.state is State.ACTIVE] == []
    if step != "record":
        assert pool.registry.places_taken() == 0
        pool.trash.empty()
        assert leftovers(pool) == []
    acquired = acquire(pool)
    assert pool.is_in_use(acquired.record)
    pool.release(acquired)
    failing.close()
    pool.close()


def test_a_failed_acquire_of_an_existing_volume_leaves_its_files_alone(
    root: Path, clock: Clock
) -> None:
    pool = Pool(VolumePool(root=str(root)), clock)
    acquired = acquire(pool)
    (acquired.path / "file").write_text("kept")
    pool.release(acquired)

    for step in ("lease", "leased", "files", "activate", "record"):

        def fail(name: str, step: str = step) -> None:
            if name == step:
                raise MemoryError(name)

        failing = Pool(pool.settings, clock, on_step=fail)
        with pytest.raises(MemoryError):
            acquire(failing)
        failing.close()
        assert not pool.is_in_use(acquired.record)
        assert (acquired.path / "file").read_text() == "kept"
    pool.close()


def test_a_failed_acquire_of_a_shared_volume_keeps_it_for_the_others(
    root: Path, clock: Clock
) -> None:
    fails = threading.Event()

    def fail(name: str) -> None:
        if fails.is_set() and name == "activate":
            raise MemoryError(name)

    pool = Pool(VolumePool(root=str(root)), clock, on_step=fail)
    first = acquire(pool)
    fails.set()
    with pytest.raises(MemoryError):
        acquire(pool, kernel="k2")
    assert pool.is_in_use(first.record)
    holder = pool.holder(first.record)
    assert holder is not None
    assert holder.kernels == ("k1",)
    pool.release(first)
    assert not pool.is_in_use(first.record)
    pool.close()


def test_something_in_the_way_of_a_volumes_directories_is_told(pool: Pool) -> None:
    acquired = acquire(pool)
    pool.release(acquired)
    subprocess.run(["rm", "-rf", str(acquired.state_directory)], check=True)
    acquired.state_directory.write_text("a file of the user's")
    said = refusal(VolumeError, lambda: acquire(pool))
    assert str(acquired.state_directory) in said
    assert not pool.is_in_use(acquired.record)


# -- a disk without a byte left ------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk of 40 MB."""
    disk = SmallDisk(tmp_path / "disk", 40 << 20)
    disk.mount()
    yield disk
    disk.unmount()


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
    assert pool.is_in_use(acquired.record)
    assert pool.find("a").state is State.ACTIVE
    holder = pool.holder(acquired.record)
    assert holder is not None
    assert holder.kernels == ("k1",)
    pool.release(acquired)
    pool.close()


def test_a_root_that_cannot_be_used_is_refused_by_the_acquire(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refusal(RootUnusable, lambda: acquire(Pool(VolumePool(root=str(tmp_path / "file")))))
