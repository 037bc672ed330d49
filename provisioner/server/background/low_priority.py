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
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from provisioner.core.errors import BackupFailed, Cancelled, VolumeError
from provisioner.core.event import Event
from provisioner.core.progress import Progress, no_progress
from provisioner.core.record import BackupRecord
from provisioner.maintenance.sweep import Report, sweep
from provisioner.pool.pool import Pool
from provisioner.settings.log import log
from provisioner.settings.pool import VolumePool
from provisioner.system.lease import holder_of, wanted_leases

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
    report: Report = _run(pool, None, cancel, no_progress)
    return report


def back_up_in_child(
    pool: Pool, volume_id: str, cancel: threading.Event, progress: Progress
) -> BackupRecord:
    """Back up a volume; see `Backups.back_up`. Called in a thread; raises errors as `sweep_in_child` does."""
    made: BackupRecord = _run(pool, volume_id, cancel, progress)
    return made


# -- in the server -------------------------------------------------------------------------------------------------


def _run(pool: Pool, volume_id: str | None, cancel: threading.Event, progress: Progress) -> Any:
    """Back up a volume in a child, or sweep if there is no `volume_id`; return the outcome."""
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
                ours.send((_settings_of(pool), volume_id))
            outcome = _outcome(ours, process, receivers, cancel, pool.root.layout.leases)
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
    return outcome


def _started(connection: Connection) -> subprocess.Popen[bytes]:
    path = [os.path.abspath(entry) for entry in sys.path if entry]
    # As multiprocessing does: a child of `python -I` is isolated as well.
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001
    return subprocess.Popen(
        [sys.executable, *flags, "-c", _START, *path],
        stdin=connection.fileno(),
        stdout=subprocess.DEVNULL,
    )


def _settings_of(pool: Pool) -> dict[str, Any]:
    names = set(pool.settings.trait_names(config=True)) - _NOT_SENT
    return {name: getattr(pool.settings, name) for name in names}


def _outcome(
    child: Connection,
    process: subprocess.Popen[bytes],
    receivers: dict[str, Callable[..., object]],
    cancel: threading.Event,
    leases: Path,
) -> Any:
    """Pass on what the child reports until its outcome comes; None if the child ended without one."""
    kill_at = math.inf
    while time.monotonic() < kill_at:
        if not (cancel.is_set() or _is_wanted(leases, process.pid)):
            kill_at = math.inf
        elif kill_at == math.inf:
            kill_at = time.monotonic() + _STOP_SECONDS
            if cancel.is_set():
                with contextlib.suppress(OSError):
                    child.send("cancel")
        # A process forked meanwhile may keep the other end open, so the end of the stream is not enough.
        has_ended = process.poll() is not None
        try:
            if child.poll(0 if has_ended else _LOOK_SECONDS):
                kind, *values = child.recv()
                if kind == "outcome":
                    return values[0]
                receivers[kind](*values)
            elif has_ended:
                return None
        except (EOFError, OSError):
            return None
    return Cancelled("the backup was cancelled because its volume is wanted, or the server stops")


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
    parent, cancel = _Parent(), threading.Event()
    try:
        settings, volume_id = parent.connection.recv()
    except EOFError:  # the server was killed
        return
    threading.Thread(target=_await_cancel, args=(parent.connection, cancel), daemon=True).start()
    log.addHandler(parent)
    outcome: Any
    try:
        pool = Pool(VolumePool(**settings))
        pool.events.subscribe(parent.send_event)
        if volume_id is None:
            outcome = sweep(pool, cancel=cancel)
        else:
            outcome = pool.back_up(volume_id, cancel=cancel, progress=parent.progress)
    except Exception as error:  # noqa: BLE001 - raised by the parent
        outcome = sendable(error)
    parent.send(*parent.last_progress)
    parent.send("outcome", outcome)


def sendable(error: Exception) -> Exception:
    """Return an error that can be pickled, with the words of the one that the work failed with."""
    if isinstance(error, VolumeError):
        return error
    if isinstance(error, OSError):  # a subclass with its own __init__ cannot be unpickled
        return OSError(error.errno, error.strerror or str(error), error.filename)
    log.error("The work of a child process failed", exc_info=error)
    return RuntimeError(f"{type(error).__name__}: {error}")


def _await_cancel(parent: Connection, cancel: threading.Event) -> None:
    """Cancel the work when the parent says so or has died; then this process ends soon in any case."""
    with contextlib.suppress(EOFError, OSError):
        parent.recv()
    cancel.set()
    time.sleep(_STOP_SECONDS + _LOOK_SECONDS)  # a parent that lives kills this process before
    os._exit(1)


class _Parent(logging.Handler):
    """The child's end of the connection, and the handler that forwards its log messages."""

    def __init__(self) -> None:
        super().__init__()
        self.connection = Connection(0)
        self._guard = threading.Lock()
        self.last_progress: tuple[object, ...] = ("progress", 0, None)
        self._next_progress = 0.0

    def send(self, *message: object) -> None:
        """Send one message. An error is ignored: if the parent is gone, `_await_cancel` ends the process."""
        with self._guard, contextlib.suppress(OSError):
            self.connection.send(message)

    def send_event(self, event: Event) -> None:
        """Send an event of the pool."""
        self.send("event", replace(event, details=dict(event.details)))

    def emit(self, record: logging.LogRecord) -> None:
        """Send a log message."""
        self.send("log", record.levelno, "%s", self.format(record))

    def progress(self, done: int, total: int | None) -> None:
        """Report progress as soon as work starts, and then a few times a second."""
        self.last_progress = ("progress", done, total)
        if time.monotonic() >= self._next_progress:
            self._next_progress = time.monotonic() + _LOOK_SECONDS
            self.send(*self.last_progress)
