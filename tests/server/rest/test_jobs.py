"""Long operations: followed to their end, limited in number, cancelled when the server stops."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timezone

import pytest

from provisioner.core.errors import VolumeHeld
from provisioner.core.progress import Progress
from provisioner.server.rest.jobs import Job, Jobs, JobState
from provisioner.server.rest.refusals import Refusal
from tests.support.serving import eventually

NOW = datetime(2024, 5, 1, tzinfo=timezone.utc)


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    jobs = Jobs(lambda: NOW)
    yield jobs
    jobs.stop(5)


def ended(jobs: Jobs, job: Job) -> Job:
    def look() -> Job | None:
        found = jobs.find(job.id)
        assert found is not None
        return None if found.state is JobState.RUNNING else found

    return eventually(look, 5)


def until_cancelled(cancel: threading.Event, progress: Progress) -> str:
    assert cancel.wait(20)
    return "cancelled in good order"


def test_a_job_shows_its_progress_and_its_result(jobs: Jobs) -> None:
    reported = threading.Event()
    go_on = threading.Event()

    def work(cancel: threading.Event, progress: Progress) -> str:
        progress(3, 10)
        reported.set()
        assert go_on.wait(5)
        return "all\nwell"

    begun = jobs.start("backup", work, volume="v", session="s")
    assert (begun.state, begun.started) == (JobState.RUNNING, NOW)
    assert reported.wait(5)
    under_way = jobs.find(begun.id)
    assert under_way is not None
    assert (under_way.done_bytes, under_way.total_bytes) == (3, 10)
    go_on.set()
    done = ended(jobs, begun)
    assert (done.state, done.message, done.code) == (JobState.DONE, "all well", None)


@pytest.mark.parametrize(
    ("error", "code"), [(VolumeHeld("in use"), "held"), (ZeroDivisionError("oops"), "internal")]
)
def test_a_failed_job_shows_the_reason(jobs: Jobs, error: Exception, code: str) -> None:
    def work(cancel: threading.Event, progress: Progress) -> str:
        raise error

    failed = ended(jobs, jobs.start("backup", work))
    assert (failed.state, failed.code) == (JobState.FAILED, code)
    assert str(error) in failed.message


def test_the_same_job_does_not_run_twice_at_a_time(jobs: Jobs) -> None:
    first = jobs.start("restore", until_cancelled, volume="v")
    older = jobs.start("restore", until_cancelled, volume="v", backup="an older backup")
    assert jobs.start("restore", until_cancelled, volume="v").id == first.id
    again = jobs.start("restore", until_cancelled, volume="v", backup="an older backup")
    assert again.id == older.id != first.id
    assert jobs.start("backup", until_cancelled, volume="v").id != first.id
    assert jobs.start("restore", until_cancelled, volume="w").id != first.id


def test_a_job_without_a_free_thread_is_refused_and_does_not_count_as_running(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as system:
        system.setattr(threading.Thread, "start", refuse)
        for n in range(9):
            with pytest.raises(Refusal, match="can't start new thread"):
                jobs.start("backup", until_cancelled, volume=str(n))
    assert jobs.recent(9) == []
    done = jobs.start("backup", lambda cancel, progress: "done", volume="0")
    assert ended(jobs, done).state is JobState.DONE


def test_only_a_few_run_at_a_time(jobs: Jobs) -> None:
    for n in range(4):
        jobs.start("backup", until_cancelled, volume=str(n))
    with pytest.raises(Refusal, match="operations are under way"):
        jobs.start("backup", until_cancelled, volume="one too many")


def test_the_newest_hundred_jobs_and_the_running_ones_are_kept(jobs: Jobs) -> None:
    running = jobs.start("sweep", until_cancelled)
    begun = []
    for n in range(150):
        begun.append(jobs.start("backup", lambda cancel, progress: "done", volume=str(n)))
        ended(jobs, begun[-1])
    assert jobs.find(running.id) is not None
    assert jobs.find(begun[0].id) is None
    assert sum(jobs.find(job.id) is not None for job in begun) <= 100
    assert [job.id for job in jobs.recent(2)] == [begun[-1].id, begun[-2].id]


def test_stopping_cancels_running_jobs_and_does_not_wait_for_one_that_hangs() -> None:
    jobs = Jobs(lambda: NOW)
    release = threading.Event()

    def hangs(cancel: threading.Event, progress: Progress) -> str:
        release.wait(20)
        return ""

    good = jobs.start("backup", until_cancelled)
    hanging = jobs.start("restore", hangs)
    jobs.stop(0.2)
    assert ended(jobs, good).message == "cancelled in good order"
    found = jobs.find(hanging.id)
    assert found is not None
    assert found.state is JobState.RUNNING
    release.set()
