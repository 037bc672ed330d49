"""Runs a server's sweeps and backups in a child process of the lowest priority.

In a thread of the server, a backup would share the interpreter lock with the event loop and, where there are few
cores, the cores: requests would wait for it. The child's memory is freed when it ends.

Parent and child exchange pickled objects over a socket pair, which is the child's standard input. The parent sends
the settings and the work, and sends anything more to cancel the work. The child sends events, progress and log
messages, and last the outcome. If the server is killed, the child reads the end of the stream and cancels its work.

The child takes leases and writes the table as any process does, so it may be killed at any instant: the next sweep
finishes or undoes what it had begun. On a busy machine the child may get no core for seconds. So the parent kills it
if it does not end soon after it was cancelled, or does not give up a volume that a kernel waits for.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, TypeVar

from provisioner.core.errors import BackupFailed, Cancelled, VolumeError
from provisioner.core.event import Event
from provisioner.core.progress import Progress, no_progress
from provisioner.core.record import BackupRecord
from provisioner.maintenance.sweep import Report, sweep
from provisioner.pool.pool import Pool
from provisioner.settings.log import log
from provisioner.settings.pool import VolumePool
from provisioner.system.lease import holder_of, wanted_leases

T = TypeVar("T")
Work = Callable[[Pool, threading.Event, Progress], T]
"""What the child does; a function of a module, or a partial of one, so that it can be pickled."""

_LOOK_SECONDS = 0.1
"""How often the parent checks whether the work was cancelled, and how often the child reports progress."""

_STOP_SECONDS = 0.7
"""How long cancelled work, or work on a volume that a kernel waits for, may take to end; then its process is killed."""

_LOWEST = 19
"""The lowest priority, as setpriority(2) counts."""

_NOT_SENT = frozenset({"env", "arbiter"})
"""Settings that no sweep and no backup needs: `env` may hold secrets, and not every callable can be pickled."""

_START = """
import sys
sys.path[:] = sys.argv[1:]
from provisioner.server.background.low_priority import main
main()
"""
"""The child's script. It imports from where the parent does: not from the current directory, nor another version."""


def sweep_in_child(pool: Pool, cancel: threading.Event) -> Report:
    """Sweep a pool; see :func:`sweep`. Called in a thread.

    Raises
    ------
    BackupFailed
        If the child could not be started or was killed.
    VolumeError, OSError
        What the sweep failed with.
    """
    return _run(_sweep, pool, cancel, no_progress)


def back_up_in_child(
    pool: Pool, volume_id: str, cancel: threading.Event, progress: Progress
) -> BackupRecord:
    """Back up a volume; see `Backups.back_up`. Called in a thread.

    Raises
    ------
    BackupFailed
        If the child could not be started or was killed, or the backup failed.
    VolumeError, OSError
        What else the backup failed with.
    """
    return _run(partial(_back_up, volume_id), pool, cancel, progress)


def _sweep(pool: Pool, cancel: threading.Event, progress: Progress) -> Report:
    return sweep(pool, cancel=cancel)


def _back_up(
    volume_id: str, pool: Pool, cancel: threading.Event, progress: Progress
) -> BackupRecord:
    return pool.back_up(volume_id, cancel=cancel, progress=progress)


# -- in the server -------------------------------------------------------------------------------------------------


def _run(work: Work[T], pool: Pool, cancel: threading.Event, progress: Progress) -> T:
    receivers: dict[str, Callable[..., object]] = {
        "event": pool.events.emit,
        "progress": progress,
        "log": log.log,
    }
    try:
        ours, theirs = Pipe()
        with theirs:
            process = _started(theirs)
    except OSError as error:
        raise BackupFailed(
            f"no process could be started for the backup: {error.strerror}; try again later"
        ) from error
    try:
        with ours:
            with contextlib.suppress(OSError):  # a child that has died is reported below
                ours.send((_sent_settings(pool.settings), work))
            leases = pool.root.layout.leases
            outcome = _outcome(
                ours, process, receivers, cancel, lambda: _is_wanted(leases, process.pid)
            )
    finally:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
    if outcome is None:
        reason = (
            f"the process that worked on the backup ended half-way (exit code {process.returncode}); "
            "is memory short? The server's log may tell more; try again"
        )
        pool.backups.note_killed(reason)
        raise BackupFailed(reason)
    if isinstance(outcome, Exception):
        raise outcome
    result: T = outcome
    return result


def _started(connection: Connection) -> subprocess.Popen[bytes]:
    path = [os.path.abspath(entry) for entry in sys.path if entry]
    return subprocess.Popen(
        [sys.executable, *_interpreter_flags(), "-c", _START, *path],
        stdin=connection.fileno(),
        stdout=subprocess.DEVNULL,
    )


def _interpreter_flags() -> list[str]:
    """Return the options that keep this interpreter from its environment and its user's packages, if it has any."""
    if sys.flags.isolated:
        return ["-I"]
    flags = {"-E": sys.flags.ignore_environment, "-s": sys.flags.no_user_site}
    return [flag for flag, is_set in flags.items() if is_set]


def _sent_settings(settings: VolumePool) -> dict[str, Any]:
    names = set(settings.trait_names(config=True)) - _NOT_SENT
    return {name: getattr(settings, name) for name in names}


def _outcome(
    child: Connection,
    process: subprocess.Popen[bytes],
    receivers: dict[str, Callable[..., object]],
    cancel: threading.Event,
    is_wanted: Callable[[], bool],
) -> Any:
    """Pass on what the child reports until its outcome comes; None if the child ended without one."""
    kill_at: float | None = None
    while True:
        if not (cancel.is_set() or is_wanted()):
            kill_at = None
        elif kill_at is None:
            kill_at = time.monotonic() + _STOP_SECONDS
            if cancel.is_set():
                with contextlib.suppress(OSError):
                    child.send("cancel")
        elif time.monotonic() > kill_at:
            return Cancelled(
                "the backup was cancelled because its volume is wanted, or the server stops"
            )
        # A process forked meanwhile may keep the other end open, so the end of the stream is not enough.
        has_ended = process.poll() is not None
        try:
            if child.poll(0 if has_ended else _LOOK_SECONDS):
                kind, values = child.recv()
                if kind == "outcome":
                    return values
                receivers[kind](*values)
            elif has_ended:
                return None
        except (EOFError, OSError):
            return None


def _is_wanted(leases: Path, pid: int) -> bool:
    """Return whether a kernel waits for a lease that the process `pid` holds."""
    try:
        holders = list(map(holder_of, wanted_leases(leases)))
    except OSError:  # the root has vanished; the child reports it
        return False
    return any(holder is not None and holder.pid == pid for holder in holders)


# -- in the child --------------------------------------------------------------------------------------------------


def main() -> None:
    """Do the work that comes through standard input."""
    # Not before the imports: a person who asks for a backup sees progress soon, however busy the machine is.
    os.nice(_LOWEST)
    # Ctrl-C in the server's terminal reaches the child as well; the server answers it, and ends the child.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    parent = _Parent(Connection(0))
    try:
        settings, work = parent.receive()
    except EOFError:  # the server was killed
        return
    cancel = threading.Event()
    threading.Thread(target=_await_cancel, args=(parent, cancel), daemon=True).start()
    log.addHandler(parent)
    try:
        pool = Pool(VolumePool(**settings))
        pool.events.subscribe(parent.send_event)
        outcome = work(pool, cancel, parent.progress)
    except VolumeError as error:
        outcome = error
    except OSError as error:  # not itself: a subclass with its own __init__ cannot be unpickled
        outcome = OSError(error.errno, error.strerror or str(error), error.filename)
    except Exception as error:
        log.exception("The work of a child process failed")
        outcome = RuntimeError(f"{type(error).__name__}: {error}")
    parent.send_progress()
    parent.send("outcome", outcome)


def _await_cancel(parent: _Parent, cancel: threading.Event) -> None:
    """Cancel the work when the parent says so or has died; after its death this process ends soon in any case."""
    try:
        while True:
            parent.receive()
            cancel.set()
    except (EOFError, OSError):
        cancel.set()
        time.sleep(_STOP_SECONDS)
        os._exit(1)


class _Parent(logging.Handler):
    """The child's end of the connection, and the handler that forwards its log messages."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection
        self._guard = threading.Lock()
        self._progress: tuple[int, int | None] | None = None
        self._reported = float("-inf")

    def receive(self) -> Any:
        """Wait for the next object from the parent (`EOFError` if it is gone)."""
        return self._connection.recv()

    def send(self, kind: str, values: Any) -> None:
        """Send one object. An error is ignored: if the parent is gone, `_await_cancel` ends the process."""
        with self._guard, contextlib.suppress(OSError):
            self._connection.send((kind, values))

    def send_event(self, event: Event) -> None:
        """Send an event of the pool."""
        self.send("event", (replace(event, details=dict(event.details)),))

    def emit(self, record: logging.LogRecord) -> None:
        """Send a log message."""
        self.send("log", (record.levelno, "%s", self.format(record)))

    def progress(self, done: int, total: int | None) -> None:
        """Report progress as soon as work starts, and then a few times a second."""
        self._progress = (done, total)
        if time.monotonic() - self._reported >= _LOOK_SECONDS:
            self.send_progress()

    def send_progress(self) -> None:
        """Report the last progress, if there was any."""
        self._reported = time.monotonic()
        if self._progress is not None:
            self.send("progress", self._progress)
