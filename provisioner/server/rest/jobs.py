"""Long operations that clients started: each in its own thread, with progress, cancelled when the server stops."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from provisioner.core.errors import Cancelled, VolumeError
from provisioner.core.progress import Progress
from provisioner.server.rest.refusals import Refusal
from provisioner.settings.log import log

_MOST_RUNNING = 4
_MOST_KEPT = 100


class JobState(Enum):
    """The state of a job; the values are stable names."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass
class Job:
    """One operation. Its thread changes it while it runs; the state last, when all else is final.

    Parameters
    ----------
    kind
        The operation: `backup`, `restore`, `sweep`, `dry-sweep`.
    backup
        The backup to restore; None for the newest, and for other operations.
    message
        The result in one line.
    code
        The stable code of the error that it failed with.
    """

    id: str
    kind: str
    volume: str | None
    session: str | None
    backup: str | None
    started: datetime
    state: JobState = JobState.RUNNING
    message: str = ""
    done_bytes: int | None = None
    total_bytes: int | None = None
    code: str | None = None
    ended: datetime | None = None


Work = Callable[[threading.Event, Progress], str]
"""Does the work and returns the result in one line; takes the event that cancels it and a callback for progress."""


class Jobs:
    """The jobs of one server: four at a time; the last hundred are kept."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._cancel = threading.Event()
        self._threads: list[threading.Thread] = []

    def find(self, job_id: str) -> Job | None:
        """Return a job; None if there was none of this id, or it is no longer kept."""
        return self._jobs.get(job_id)

    def recent(self, count: int) -> list[Job]:
        """Return the newest jobs, newest first."""
        return list(self._jobs.values())[: -count - 1 : -1]

    def start(
        self,
        kind: str,
        work: Work,
        *,
        volume: str | None = None,
        session: str | None = None,
        backup: str | None = None,
    ) -> Job:
        """Start a job and return it, or return a running one that does the same.

        Raises
        ------
        Refusal
            If four others run, or the system has no free thread.
        """
        with self._guard:
            running = [job for job in self._jobs.values() if job.state is JobState.RUNNING]
            for job in running:
                if (job.kind, job.volume, job.backup) == (kind, volume, backup):
                    return job
            if len(running) >= _MOST_RUNNING:
                raise Refusal(
                    "too-many-jobs",
                    f"{len(running)} operations are under way, and no more are begun at the same time; "
                    "try again when one is over.",
                )
            job = Job(secrets.token_hex(8), kind, volume, session, backup, self._clock())
            # A daemon: killed at exit it loses nothing, and a destination that hangs does not keep the server alive.
            thread = threading.Thread(
                target=self._run, args=(job, work), name=f"volumes-{kind}", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:
                message = f"No more can be begun now ({error}); try again later."
                raise Refusal("too-many-jobs", message) from error
            self._jobs[job.id] = job
            self._threads = [t for t in self._threads if t.is_alive()] + [thread]
            over = [job.id for job in self._jobs.values() if job.state is not JobState.RUNNING]
            for job_id in over[: max(0, len(self._jobs) - _MOST_KEPT)]:
                del self._jobs[job_id]
        return job

    def stop(self, within: float) -> None:
        """Cancel all jobs and wait up to so many seconds for their end."""
        self._cancel.set()
        with self._guard:
            threads = list(self._threads)
        for thread in threads:
            thread.join(within / len(threads))

    def _run(self, job: Job, work: Work) -> None:
        def progress(done: int, total: int | None) -> None:
            job.done_bytes, job.total_bytes = done, total

        state, code = JobState.DONE, None
        try:
            message = work(self._cancel, progress)
        except VolumeError as error:
            state = JobState.CANCELLED if isinstance(error, Cancelled) else JobState.FAILED
            message, code = str(error), error.code
        except Exception as error:
            log.exception("A job failed")
            state, code = JobState.FAILED, "internal"
            message = f"{type(error).__name__}: {error}"
        job.message, job.code, job.ended = " ".join(message.split("\n")), code, self._clock()
        job.state = state
