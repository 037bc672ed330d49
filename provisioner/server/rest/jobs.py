"""Long operations asked for over REST: each in a thread of its own, with progress, cancelled when the server stops."""

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
    """What has become of a job; the values are stable names."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Job:
    """One operation under way or over.

    Parameters
    ----------
    id, kind
        Its id, and what is done: `backup`, `restore`, `sweep`.
    volume, session
        To which volume; None for a sweep.
    state, message
        How it stands, and what came of it in one line.
    done_bytes, total_bytes
        How far it is; None where that is not known.
    code
        The stable code of the error it failed with.
    started, ended
        When (UTC).
    wish
        What was asked for beyond that, such as a certain backup; None: the usual.
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
    wish: str | None = None


Work = Callable[[threading.Event, Progress], str]
"""Does the work and returns what came of it, in one line; is given what cancels it and what to tell progress to."""


class Jobs:
    """The jobs of one server: a few at a time, the last hundred kept.

    Parameters
    ----------
    clock
        Tells the time (UTC).
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._cancel = threading.Event()
        self._threads: list[threading.Thread] = []

    def find(self, job_id: str) -> Job | None:
        """Return a job; None if there never was one, or it is long over."""
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
        wish: str | None = None,
    ) -> Job:
        """Start a job and return it; the one that already does just this, if there is one.

        Raises
        ------
        TooManyJobs
            If several others are under way, or the system gives no thread for another.
        """
        with self._guard:
            running = [job for job in self._jobs.values() if job.state is JobState.RUNNING]
            for job in running:
                if (job.kind, job.volume, job.wish) == (kind, volume, wish):
                    return job
            if len(running) >= _MOST_RUNNING:
                raise TooManyJobs(
                    f"{len(running)} operations are under way, and no more are begun at the same time; "
                    "try again when one is over."
                )
            now, job_id = self._clock(), secrets.token_hex(8)
            job = Job(job_id, kind, volume, session, JobState.RUNNING, now, wish=wish)
            # A daemon: killed at exit it loses nothing, and a destination that hangs must not keep the server alive.
            thread = threading.Thread(
                target=self._run, args=(job.id, work), name=f"volumes-{kind}", daemon=True
            )
            try:
                thread.start()  # its first word waits for the guard
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
            said = work(self._cancel, progress)
        except Cancelled as error:
            self._end(job_id, JobState.CANCELLED, str(error), error.code)
        except VolumeError as error:
            self._end(job_id, JobState.FAILED, str(error), error.code)
        except Exception as error:
            log.exception("A job failed")
            self._end(job_id, JobState.FAILED, f"{type(error).__name__}: {error}", "internal")
        else:
            self._end(job_id, JobState.DONE, said, None)

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
