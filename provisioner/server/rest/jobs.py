"""Long operations that clients started: each in its own thread, with progress, cancelled when the server stops."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from provisioner.core.errors import Cancelled, VolumeError
from provisioner.core.progress import Progress
from provisioner.server.rest.refusals import TooManyJobs
from provisioner.settings.log import log

_MOST_RUNNING = 4
_MOST_KEPT = 100


class JobState(Enum):
    """The state of a job; the values are stable names."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Job:
    """One operation, running or over.

    Parameters
    ----------
    id, kind
        Its id, and the operation: `backup`, `restore`, `sweep`, `dry-sweep`.
    volume, session
        The volume concerned; None for a sweep.
    state, message
        Its state, and its result in one line.
    done_bytes, total_bytes
        Its progress; None if not known.
    code
        The stable code of the error that it failed with.
    started, ended
        When (UTC).
    backup
        The backup to restore; None for the newest, and for other operations.
    """

    id: str
    kind: str
    volume: str | None
    session: str | None
    state: JobState
    started: datetime
    message: str = ""
    done_bytes: int | None = None
    total_bytes: int | None = None
    code: str | None = None
    ended: datetime | None = None
    backup: str | None = None


Work = Callable[[threading.Event, Progress], str]
"""Does the work and returns the result in one line; takes the event that cancels it and a callback for progress."""


class Jobs:
    """The jobs of one server: four at a time; the last hundred are kept.

    Parameters
    ----------
    clock
        Returns the time (UTC).
    """

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
        TooManyJobs
            If four others run, or the system has no free thread.
        """
        with self._guard:
            running = [job for job in self._jobs.values() if job.state is JobState.RUNNING]
            for job in running:
                if (job.kind, job.volume, job.backup) == (kind, volume, backup):
                    return job
            if len(running) >= _MOST_RUNNING:
                raise TooManyJobs(
                    f"{len(running)} operations are under way, and no more are begun at the same time; "
                    "try again when one is over."
                )
            now, job_id = self._clock(), secrets.token_hex(8)
            job = Job(job_id, kind, volume, session, JobState.RUNNING, now, backup=backup)
            # A daemon: killed at exit it loses nothing, and a destination that hangs does not keep the server alive.
            thread = threading.Thread(
                target=self._run, args=(job.id, work), name=f"volumes-{kind}", daemon=True
            )
            try:
                thread.start()  # its first change of the job waits for the guard
            except RuntimeError as error:
                raise TooManyJobs(
                    f"No more can be begun now ({error}); try again later."
                ) from error
            self._jobs[job.id] = job
            self._threads = [t for t in self._threads if t.is_alive()] + [thread]
            self._forget_oldest()
        return job

    def stop(self, within: float) -> None:
        """Cancel all jobs and wait up to so many seconds for their end."""
        self._cancel.set()
        with self._guard:
            threads = list(self._threads)
        for thread in threads:
            thread.join(within / len(threads))

    def _run(self, job_id: str, work: Work) -> None:
        def progress(done: int, total: int | None) -> None:
            self._change(job_id, done_bytes=done, total_bytes=total)

        try:
            result = work(self._cancel, progress)
        except Cancelled as error:
            self._end(job_id, JobState.CANCELLED, str(error), error.code)
        except VolumeError as error:
            self._end(job_id, JobState.FAILED, str(error), error.code)
        except Exception as error:
            log.exception("A job failed")
            self._end(job_id, JobState.FAILED, f"{type(error).__name__}: {error}", "internal")
        else:
            self._end(job_id, JobState.DONE, result, None)

    def _end(self, job_id: str, state: JobState, message: str, code: str | None) -> None:
        self._change(
            job_id,
            state=state,
            message=" ".join(message.split("\n")),
            code=code,
            ended=self._clock(),
        )

    def _change(self, job_id: str, **values: object) -> None:
        with self._guard:
            self._jobs[job_id] = replace(self._jobs[job_id], **values)  # type: ignore[arg-type]  # fields by name

    def _forget_oldest(self) -> None:
        over = [job.id for job in self._jobs.values() if job.state is not JobState.RUNNING]
        for job_id in over[: max(0, len(self._jobs) - _MOST_KEPT)]:
            del self._jobs[job_id]
