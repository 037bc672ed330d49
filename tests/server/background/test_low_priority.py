"""Sweeps and backups in a child process: as if they ran here, and the child may be starved or killed at any instant."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from provisioner.core.errors import BackupFailed, Cancelled, VolumeHeld
from provisioner.core.event import Event, Kind
from provisioner.core.policy import Action
from provisioner.core.progress import no_progress
from provisioner.core.record import BackupRecord
from provisioner.maintenance.sweep import sweep
from provisioner.pool.pool import Pool
from provisioner.server.background import low_priority
from provisioner.server.background.low_priority import back_up_in_child, sweep_in_child
from provisioner.settings.pool import VolumePool
from tests.support.children import Child
from tests.support.pools import wait_for
from tests.support.processes import is_gone, line_of, low_priority_children, running

LARGE = 48 << 20
"""More than the compressor buffers, so that the backup goes on for a while after its first report."""

SECRET = "a-secret-of-kernels"
Doing = Callable[[psutil.Process], object]


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    """A pool whose settings no child could find by itself."""
    settings = VolumePool(
        root=str(tmp_path / "rööt"),
        backup_after=0.1,
        backup_exclude=["left-out*"],
        keep_backups={"count": 2, "age": "90d"},
        kernelspec_policy={"other": {"prune_after": "30d"}},
        env={"TOKEN": SECRET},
        arbiter=lambda session, kernel, idle: True,
    )
    pool = Pool(settings)
    yield pool
    pool.close()


def stopped(pool: Pool, session: str = "ü 😀") -> str:
    """Make a stopped volume with a large file; return its id."""
    acquired = pool.acquire(session, "k", kernel="k1")
    (acquired.path / "large").write_bytes(os.urandom(LARGE))
    (acquired.path / "left-out").write_text("x")
    pool.release(acquired)
    return acquired.record.id


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    """Whatever came of the work, its process has ended."""
    yield
    assert low_priority_children(os.getpid()) == []


class OnProgress:
    """Does something to the child at its first report of progress."""

    def __init__(self, do: Doing) -> None:
        self.seen: list[psutil.Process] = []
        self._do = do

    def __call__(self, done: int, total: int | None) -> None:
        if not self.seen:
            self.seen = low_priority_children(os.getpid())
            self._do(self.seen[0])


def back_up(
    pool: Pool, volume: str, do: Doing = lambda process: None, cancel: threading.Event | None = None
) -> BackupRecord:
    """Back up a volume in a child, doing something to it at its first report of progress."""
    on_progress = OnProgress(do)
    made = back_up_in_child(pool, volume, cancel or threading.Event(), on_progress)
    assert on_progress.seen
    return made


def backups(pool: Pool) -> list[str]:
    directory = Path(pool.settings.destination)
    return sorted(os.listdir(directory)) if directory.exists() else []


# -- what comes back -------------------------------------------------------------------------------------------------


def test_a_backup_made_in_a_child_is_reported_in_the_table_and_comes_back(pool: Pool) -> None:
    volume = stopped(pool)
    heard: list[Event] = []
    reported: list[int] = []
    pool.events.subscribe(heard.append)
    made = back_up_in_child(pool, volume, threading.Event(), lambda done, _: reported.append(done))
    assert reported == sorted(reported)
    assert reported[0] < LARGE < reported[-1]
    assert [(e.kind, e.session, e.volume) for e in heard] == [(Kind.BACKED_UP, "ü 😀", volume)]
    assert heard[0].details["backup"] == made.name
    assert pool.backups.list(volume) == [made]
    assert backups(pool) == [made.name]
    pool.prune(volume)
    acquired = pool.acquire("ü 😀", "k", kernel="k2")
    assert (acquired.path / "large").stat().st_size == LARGE
    assert not (acquired.path / "left-out").exists(), "the child knew what to exclude"
    pool.release(acquired)


def test_a_sweep_in_a_child_returns_its_report(pool: Pool) -> None:
    volume = stopped(pool)
    time.sleep(0.2)
    report = sweep_in_child(pool, threading.Event())
    assert [(s.action, s.volume, s.error) for s in report.steps] == [(Action.BACK_UP, volume, None)]
    assert report.seconds > 0


def test_a_failure_is_raised_logged_and_reported_as_if_it_happened_here(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    volume = stopped(pool)
    Path(pool.settings.destination).write_text("in the way")
    heard: list[Event] = []
    pool.events.subscribe(heard.append)
    with caplog.at_level(logging.WARNING), pytest.raises(BackupFailed, match="backups") as caught:
        back_up_in_child(pool, volume, threading.Event(), no_progress)
    assert "\n" not in str(caught.value)
    assert [event.kind for event in heard] == [Kind.FAILED]
    assert str(caught.value) in caplog.text


def test_a_volume_in_use_is_refused(pool: Pool) -> None:
    acquired = pool.acquire("used", "k", kernel="k1")
    with pytest.raises(VolumeHeld, match="k1"):
        back_up_in_child(pool, acquired.record.id, threading.Event(), no_progress)
    pool.release(acquired)


# -- what the child gets ---------------------------------------------------------------------------------------------


def test_the_child_has_the_lowest_priority_no_secret_and_no_file_of_the_server(
    pool: Pool, tmp_path: Path
) -> None:
    volume = stopped(pool)
    (tmp_path / "held").write_text("x")
    found: dict[str, Any] = {}

    def look(process: psutil.Process) -> None:
        found["nice"] = process.nice()
        found["public"] = f"{process.cmdline()} {process.environ()}"
        found["files"] = [os.path.basename(file.path) for file in process.open_files()]

    with open(tmp_path / "held") as held:
        os.set_inheritable(held.fileno(), True)
        back_up(pool, volume, look)
    assert found["nice"] == 19
    assert SECRET not in found["public"]
    assert "held" not in found["files"]
    assert psutil.Process().nice() < 19


def test_output_of_an_interpreters_startup_does_no_harm(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('{\"welcome\": true}')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    back_up(pool, stopped(pool))


def test_files_in_the_current_directory_hide_no_module(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("provisioner", "zstandard", "dataclasses", "pickle"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not this one')")
    monkeypatch.chdir(tmp_path)
    back_up(pool, stopped(pool))


WITHOUT_STREAMS = """
import os, sys, threading
from provisioner.pool.pool import Pool
from provisioner.server.background.low_priority import back_up_in_child
from provisioner.settings.pool import VolumePool
root, volume, *closed = sys.argv[1:]
pool = Pool(VolumePool(root=root))
for stream in map(int, closed):
    os.close(stream)
back_up_in_child(pool, volume, threading.Event(), lambda done, total: None)
"""


@pytest.mark.parametrize("closed", [(0,), (0, 1, 2)], ids=str)
def test_a_server_without_standard_streams_makes_backups_too(
    pool: Pool, closed: tuple[int, ...]
) -> None:
    volume = stopped(pool)
    arguments = [pool.settings.root, volume, *map(str, closed)]
    subprocess.run([sys.executable, "-c", WITHOUT_STREAMS, *arguments], check=True)
    assert len(backups(pool)) == 1


# -- cancelled, starved, killed --------------------------------------------------------------------------------------


both = pytest.mark.parametrize("is_starved", [False, True], ids=["running", "without a core"])


@both
def test_cancelled_work_ends_within_seconds_and_the_next_sweep_takes_what_is_left(
    pool: Pool, is_starved: bool
) -> None:
    volume, cancel = stopped(pool), threading.Event()

    def stop(process: psutil.Process) -> None:
        if is_starved:
            process.suspend()
        cancel.set()

    began = time.monotonic()
    with pytest.raises(Cancelled):
        back_up(pool, volume, stop, cancel)
    assert time.monotonic() - began < 10
    sweep(pool)
    assert not any(name.startswith(".partial") for name in backups(pool))


@both
def test_a_child_does_not_keep_a_kernel_from_its_volume(pool: Pool, is_starved: bool) -> None:
    volume = stopped(pool)
    waited: list[float] = []

    def acquire() -> None:
        began = time.monotonic()
        acquired = pool.acquire("ü 😀", "k", kernel="k2")
        waited.append(time.monotonic() - began)
        pool.release(acquired)

    kernel = threading.Thread(target=acquire)

    def want(process: psutil.Process) -> None:
        if is_starved:
            process.suspend()
        kernel.start()

    with pytest.raises(Cancelled):
        back_up(pool, volume, want)
    kernel.join()
    assert waited[0] < 5
    time.sleep(0.2)
    sweep(pool)
    assert len(backups(pool)) == 1, "the partial backup is gone, and a whole one was made"


def test_a_child_that_is_killed_fails_the_backup_in_one_line_and_the_next_sweep_backs_up(
    pool: Pool,
) -> None:
    volume = stopped(pool)
    with pytest.raises(BackupFailed, match=r"half-way \(exit code -9\)") as caught:
        back_up(pool, volume, lambda process: process.kill())
    assert "\n" not in str(caught.value)
    sweep(pool)
    assert backups(pool) == [backup.name for backup in pool.backups.list(volume)]


def test_a_process_that_cannot_be_started_fails_the_backup_in_one_line(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(BackupFailed, match="no process could be started") as caught:
        back_up_in_child(pool, stopped(pool), threading.Event(), no_progress)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_whole_process_group_is_answered_by_the_server_alone(
    pool: Pool, number: signal.Signals
) -> None:
    back_up(pool, stopped(pool), lambda process: process.send_signal(number))


def test_a_process_forked_meanwhile_does_not_hold_up_a_backup(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a process has copies of both ends of the connection, and never closes them."""
    volume = stopped(pool)
    start, forked = low_priority._started, contextlib.ExitStack()

    def started(connection: Any) -> subprocess.Popen[bytes]:
        forked.enter_context(Child(lambda: "", stays=True))
        return start(connection)

    monkeypatch.setattr(low_priority, "_started", started)
    with forked:
        back_up(pool, volume)


KILLED = """
import sys, threading
from provisioner.pool.pool import Pool
from provisioner.server.background.low_priority import back_up_in_child
from provisioner.settings.pool import VolumePool
def progress(done, total):
    print("at work", flush=True)
    sys.stdin.readline()
back_up_in_child(Pool(VolumePool(root=sys.argv[1])), sys.argv[2], threading.Event(), progress)
"""


def test_the_child_of_a_killed_server_ends_by_itself(pool: Pool) -> None:
    volume = stopped(pool)
    with running(KILLED, pool.settings.root, volume) as server:
        assert line_of(server) == "at work"
        (child,) = psutil.Process(server.pid).children()
        child.suspend()
        server.send_signal(signal.SIGKILL)
        server.wait()
    child.resume()
    wait_for(lambda: is_gone(child))
    assert not any(name.startswith("v1-") for name in backups(pool))
    sweep(pool)
    assert backups(pool) == [backup.name for backup in pool.backups.list(volume)]


# -- what the parent and its child have in common ----------------------------------------------------------------------

ISOLATED = """
import sys, threading
from provisioner.pool.pool import Pool
from provisioner.server.background.low_priority import sweep_in_child
from provisioner.settings.pool import VolumePool
pool = Pool(VolumePool(root=sys.argv[1]))
print(sweep_in_child(pool, threading.Event()).skipped)
"""


@pytest.mark.parametrize("flag", ["-I", "-E"])
def test_an_interpreter_that_ignores_its_environment_has_a_child_that_does_so_too(
    pool: Pool, tmp_path: Path, flag: str
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "json.py").write_text("raise SystemExit('a file of somebody else')")
    done = subprocess.run(
        [sys.executable, flag, "-c", ISOLATED, str(tmp_path / "root")],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("False\n", 0), done.stderr


def test_a_sweep_in_a_child_deletes_what_it_prunes_and_puts_changed_files_back(pool: Pool) -> None:
    pool.settings.prune_after = timedelta(seconds=0.1)
    kept, changed = stopped(pool, "kept"), stopped(pool, "changed")
    for volume in (kept, changed):
        pool.back_up(volume)
    path = pool.path(pool.find("changed"))
    (path / "large").write_text("changed in a terminal")
    time.sleep(0.2)
    sweep_in_child(pool, threading.Event())
    assert os.listdir(pool.root.layout.trash) == []
    assert not pool.path(pool.find("kept")).exists()
    assert (path / "large").read_text() == "changed in a terminal"


class OddError(OSError):
    """An error that cannot be unpickled: it does not keep the arguments of its constructor."""

    def __init__(self, one: str, two: str, three: str) -> None:
        super().__init__(5, one + two + three)


@pytest.mark.parametrize(
    ("error", "received"),
    [
        (VolumeHeld("in use"), VolumeHeld),
        (OddError("it ", "is ", "odd"), OSError),
        (ValueError("a fault of the program"), RuntimeError),
    ],
)
def test_what_a_child_raises_is_raised_here_with_its_own_words(
    error: Exception, received: type[Exception]
) -> None:
    sent = pickle.loads(pickle.dumps(low_priority.sendable(error)))
    assert type(sent) is received
    assert str(error) in str(sent)
