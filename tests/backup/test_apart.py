"""Backups made gently: in a process apart, which may be starved or killed at any instant and harms nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import psutil
import pytest

from provisioner.backup import apart
from provisioner.backup.destinations.urls import destination_for
from provisioner.backup.format.manifest import About
from provisioner.backup.operation import Backup, gently, restore_backup, verify_backup, write_backup
from provisioner.core.errors import BackupDamaged, BackupFailed, Cancelled
from tests.support.children import Child
from tests.support.pools import wait_for
from tests.support.processes import line_of, running
from tests.support.trees import ABOUT, MOMENT, see

LARGE = 48 << 20
"""More than is checked in this process, and than pipe and compressor hold: while nobody listens, there is no end."""

Look = Callable[[int, "int | None"], None]


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A tree with a large file, and names and things that need care on their way to another process."""
    top = tmp_path / "vöume"
    (top / "empty").mkdir(parents=True)
    (top / "large").write_bytes(os.urandom(LARGE))
    (top / "link").symlink_to("large")
    (top / "second name").hardlink_to(top / "large")
    with open(os.fsencode(top) + b"/not utf-8 \xff", "wb") as file:
        file.write(b"x")
    os.mkfifo(top / "fifo")
    return top


def back_up(
    volume: Path,
    into: Path,
    progress: Look = lambda done, total: None,
    about: About = ABOUT,
    cancel: threading.Event | None = None,
    on_step: Callable[[str], None] = lambda step: None,
    exclude: tuple[str, ...] = (),
) -> Backup:
    """Back up gently."""
    with gently():
        return write_backup(
            volume,
            destination_for(into),
            about,
            cancel=cancel or threading.Event(),
            progress=progress,
            on_step=on_step,
            exclude=exclude,
        )


def workers() -> list[psutil.Process]:
    """Return the processes apart that work for this one."""
    return [
        p for p in psutil.Process().children() if "provisioner.backup.child" in str(p.cmdline())
    ]


class Watch:
    """Does something to the process apart as soon as it says how far it is, and only once."""

    def __init__(self, do: Callable[[psutil.Process], object]) -> None:
        self.seen: list[psutil.Process] = []
        self._do = do

    def __call__(self, done: int, total: int | None) -> None:
        if not self.seen:
            self.seen = workers()
            self._do(self.seen[0])


@pytest.fixture(autouse=True)
def nobody_is_left() -> Iterator[None]:
    """Whatever came of a backup, no process works on it any more."""
    yield
    wait_for(lambda: not workers())


# -- it is the same backup -------------------------------------------------------------------------------------------


def test_a_backup_made_apart_says_and_holds_what_one_made_here_does(
    tmp_path: Path, volume: Path
) -> None:
    place = destination_for(tmp_path / "here")
    here = write_backup(volume, place, ABOUT, cancel=threading.Event(), exclude=("emp*",))
    apart = back_up(volume, tmp_path / "apart", exclude=("emp*",))
    assert (apart.name, apart.manifest) == (here.name, here.manifest)
    assert apart.manifest.excluded.paths == ("empty",)
    assert apart.size == (tmp_path / "apart" / str(apart.name)).stat().st_size
    there = destination_for(tmp_path / "apart")
    verify_backup(there, apart.name, cancel=threading.Event())
    restore_backup(there, apart.name, tmp_path / "restored", cancel=threading.Event())
    (volume / "empty").rmdir()
    restored, original = see(tmp_path / "restored"), see(volume)
    del restored[b"."], original[b"."]
    assert restored == original


def test_its_progress_is_told_to_the_end(tmp_path: Path, volume: Path) -> None:
    told: list[tuple[int, int | None]] = []
    back_up(volume, tmp_path / "backups", lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert 0 < told[0][0] < LARGE < told[-1][0]


def test_a_session_of_any_name_and_a_volume_of_any_name_arrive(tmp_path: Path) -> None:
    top = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n"))
    top.mkdir()
    moment = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)
    about = About("vol-1", "ü\n\udcff" + "x" * 4000, "k", 3, moment)
    assert back_up(top, tmp_path / "backups", about=about).manifest.about == about


def test_the_process_has_the_lowest_priority_and_holds_nothing_of_ours(
    tmp_path: Path, volume: Path
) -> None:
    held = os.open(volume / "large", os.O_RDONLY)
    os.set_inheritable(held, True)
    found: dict[str, object] = {}

    def look(process: psutil.Process) -> None:
        found["nice"] = process.nice()
        found["files"] = {os.path.realpath(f.path) for f in process.open_files()}

    try:
        watch = Watch(look)
        back_up(volume, tmp_path / "backups", watch)
    finally:
        os.close(held)
    assert found["nice"] == 19
    assert str(tmp_path / "backups") not in str(found["files"])
    assert psutil.Process().nice() < 19


# -- cancelled -------------------------------------------------------------------------------------------------------


def test_a_backup_is_cancelled_although_its_process_gets_no_core(
    tmp_path: Path, volume: Path
) -> None:
    cancel = threading.Event()

    def starve(process: psutil.Process) -> None:
        process.suspend()
        cancel.set()

    watch = Watch(starve)
    with pytest.raises(Cancelled, match="made later"):
        back_up(volume, tmp_path / "backups", watch, cancel=cancel)
    assert watch.seen
    assert os.listdir(tmp_path / "backups") == []


def test_checking_a_backup_is_cancelled_although_its_process_gets_no_core(
    tmp_path: Path, volume: Path
) -> None:
    cancel = threading.Event()
    seen: list[psutil.Process] = []

    def starve() -> None:
        wait_for(lambda: bool(workers()))
        seen.extend(workers())
        seen[0].suspend()
        cancel.set()

    thread = threading.Thread(target=starve)

    def on_step(step: str) -> None:
        if step == "put:flushed":
            thread.start()

    with pytest.raises(Cancelled):
        back_up(volume, tmp_path / "backups", cancel=cancel, on_step=on_step)
    thread.join()
    assert seen
    assert os.listdir(tmp_path / "backups") == []


# -- what goes wrong over there, is told here ------------------------------------------------------------------------


def test_a_process_that_is_killed_fails_the_backup_in_one_line_and_leaves_nothing(
    tmp_path: Path, volume: Path
) -> None:
    watch = Watch(lambda process: process.kill())
    with pytest.raises(BackupFailed, match=r"half-way \(exit code -9\)") as caught:
        back_up(volume, tmp_path / "backups", watch)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path / "backups") == []


def test_a_volume_that_cannot_be_read_is_refused_with_the_same_words(
    tmp_path: Path, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    monkeypatch.setattr(Path, "is_dir", lambda self: True)
    with pytest.raises(BackupFailed) as here:
        write_backup(gone, destination_for(tmp_path / "b"), ABOUT, cancel=threading.Event())
    with pytest.raises(BackupFailed) as apart:
        back_up(gone, tmp_path / "b")
    assert str(apart.value) == str(here.value)


def test_what_was_spoiled_before_it_was_read_back_is_found(tmp_path: Path, volume: Path) -> None:
    def spoil(step: str) -> None:
        if step == "put:flushed":
            (partial,) = (tmp_path / "backups").iterdir()
            with partial.open("r+b") as file:
                file.seek(LARGE // 2)
                file.write(b"spoiled")

    with pytest.raises(BackupDamaged):
        back_up(volume, tmp_path / "backups", on_step=spoil)
    assert os.listdir(tmp_path / "backups") == []


def test_where_no_process_can_be_started_the_backup_fails_in_one_line(
    tmp_path: Path, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(BackupFailed, match="no process could be started"):
        back_up(volume, tmp_path / "backups")
    assert os.listdir(tmp_path / "backups") == []


# -- whoever asked is killed -----------------------------------------------------------------------------------------

ASKING = """
import os, sys, threading
from pathlib import Path
from provisioner.backup.destinations.urls import destination_for
from provisioner.backup.operation import gently, write_backup
from tests.support.trees import ABOUT
def progress(done, total):
    print("at work", flush=True)
    sys.stdin.readline()
with gently():
    write_backup(Path(sys.argv[1]), destination_for(sys.argv[2]), ABOUT,
                 cancel=threading.Event(), progress=progress)
"""


def test_when_whoever_asked_is_killed_the_process_ends_and_a_sweep_takes_what_is_left(
    tmp_path: Path, volume: Path
) -> None:
    backups = tmp_path / "backups"
    with running(ASKING, str(volume), str(backups)) as asking:
        assert line_of(asking) == "at work"
        (worker,) = psutil.Process(asking.pid).children()
        asking.send_signal(signal.SIGKILL)
        asking.wait()
    assert len(os.listdir(backups)) == 1
    wait_for(lambda: not _lives(worker))
    destination_for(backups).sweep_partials(MOMENT)
    assert os.listdir(backups) == []


def _lives(process: psutil.Process) -> bool:
    # In a container without an init nobody may reap what was left to it.
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_it_is_found_from_any_directory(tmp_path: Path, volume: Path) -> None:
    (tmp_path / "elsewhere" / "provisioner").mkdir(parents=True)
    (tmp_path / "elsewhere" / "zstandard.py").write_text("raise SystemExit('not this one')")
    script = """
import sys, threading
from pathlib import Path
from provisioner.backup.format.manifest import About
from provisioner.backup.destinations.urls import destination_for
from provisioner.backup.operation import gently, write_backup
from datetime import datetime, timezone
about = About("vol-1", "s", "k", 1, datetime.now(timezone.utc))
with gently():
    write_backup(Path(sys.argv[1]), destination_for(sys.argv[2]), about, cancel=threading.Event())
"""
    safely = "import sys; sys.path = [p for p in sys.path if p]\n"
    subprocess.run(
        [sys.executable, "-c", safely + script, volume, tmp_path / "backups"],
        cwd=tmp_path / "elsewhere",
        check=True,
    )
    assert len(os.listdir(tmp_path / "backups")) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_ends_a_whole_process_group_is_left_to_the_one_who_asked(
    tmp_path: Path, volume: Path, number: signal.Signals
) -> None:
    """It cancels the backup, which then is none that has failed."""
    watch = Watch(lambda process: process.send_signal(number))
    made = back_up(volume, tmp_path / "backups", watch)
    assert watch.seen
    assert made.size == (tmp_path / "backups" / str(made.name)).stat().st_size


def test_a_process_that_is_forked_meanwhile_holds_no_backup_up(
    tmp_path: Path, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the pipes too, and never ends them."""
    start, forked = apart._started, contextlib.ExitStack()

    def started(lent: Iterable[int]) -> subprocess.Popen[bytes]:
        process = start(lent)
        forked.enter_context(Child(lambda: "", stays=True))
        return process

    monkeypatch.setattr(apart, "_started", started)
    with forked:
        made = back_up(volume, tmp_path / "backups")
        verify_backup(destination_for(tmp_path / "backups"), made.name, cancel=threading.Event())
