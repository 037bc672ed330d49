"""Servers and kernels that end, in order or not, and what the next ones find."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psutil
import pytest

from provisioner.core.record import State
from provisioner.pool.pool import Pool
from provisioner.settings.pool import VolumePool
from tests.support.serving import KERNEL, Place, Server, eventually, served

BLOCKING = "--AsyncMappingKernelManager.use_pending_kernels=False"
PENDING = "--AsyncMappingKernelManager.use_pending_kernels=True"
STOPS_WITHIN = 5.0
ANOTHER = "another.ipynb"
"""A notebook whose kernel runs: without one, a jupyter_server that stops ignores starts as well."""
HANG = str(40_000 + os.getpid())
"""Seconds; a number that marks the processes of these tests."""


def both_modes(test: Any) -> Any:
    return pytest.mark.parametrize("mode", [PENDING, BLOCKING], ids=["pending", "blocking"])(test)


@both_modes
def test_a_server_with_a_failed_start_still_stops(place: Place, mode: str) -> None:
    fails = place.kernelspec("fails", bootstrap_command=["sh", "-c", "echo broken >&2; exit 3"])
    server = Server(place, mode)
    try:
        server.begin("a.ipynb", kernel=fails)
        eventually(lambda: "broken" in server.log, what="the failure is logged")
        # The table shows it before the server's own list does.
        eventually(lambda: server.wait_for_volume("a.ipynb", "stopped")["kernels"] == [])
        assert server.get("/api/status").ok
    finally:
        took = server.stop()
    assert took < STOPS_WITHIN
    assert server.process.returncode == 0


@both_modes
def test_a_server_with_a_hanging_start_still_stops_and_releases_the_volume(
    place: Place, mode: str
) -> None:
    hangs = place.kernelspec("hangs", bootstrap_command=["sleep", HANG])
    server = Server(place, mode)
    try:
        server.start(ANOTHER)
        begun = _attempt(lambda: server.begin("a.ipynb", kernel=hangs))
        eventually(_sleepers, what="the hydration hangs")
        volume = server.wait_for_volume("a.ipynb")
        assert volume["state"] == "active"
    finally:
        took = server.stop()
    assert took < STOPS_WITHIN
    assert server.process.returncode == 0
    assert not _sleepers()
    begun.join(10)
    assert _state_on_disk(place, "a.ipynb") is State.STOPPED
    assert "did not stop in good order" not in server.log


@both_modes
def test_a_server_with_a_restart_that_hangs_still_stops_and_releases_the_volume(
    place: Place, mode: str
) -> None:
    server = Server(place, mode)
    try:
        server.start(ANOTHER)
        kernel = server.start("a.ipynb")["kernel"]["id"]
        volume = server.wait_for_volume("a.ipynb")
        state = place.root / "volumes" / volume["id"] / ".volume"
        (state / "hydration.json").unlink()
        with (state / "hydration.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            restart = _attempt(lambda: server.ask("POST", f"/api/kernels/{kernel}/restart"))
            eventually(lambda: "waiting for another start of this volume" in server.log)
            took = server.stop()
    finally:
        server.stop()
    assert took < STOPS_WITHIN
    assert server.process.returncode == 0
    restart.join(10)
    assert _state_on_disk(place, "a.ipynb") is State.STOPPED
    assert "did not stop in good order" not in server.log


@both_modes
def test_a_server_with_a_start_that_waits_for_a_volume_still_stops(place: Place, mode: str) -> None:
    place.configure(acquire_timeout="1h")
    place.notebook("a.ipynb")
    other = Pool(VolumePool(root=str(place.root)))
    acquired = other.acquire(place.session("a.ipynb"), KERNEL, kernel="theirs")
    server = Server(place, mode)
    try:
        server.start(ANOTHER)
        begun = _attempt(lambda: server.begin("a.ipynb"))
        eventually(lambda: server.log.count("with kernel provisioner: volume-provisioner") > 1)
    finally:
        took = server.stop()
    assert took < STOPS_WITHIN
    assert server.process.returncode == 0
    begun.join(10)
    other.release(acquired)
    other.close()


def test_closing_a_notebook_ends_its_hydration(server: Server) -> None:
    hangs = server.place.kernelspec("endless", bootstrap_command=["sleep", HANG])
    session = server.begin("closed.ipynb", kernel=hangs).json()
    eventually(_sleepers, what="the hydration hangs")
    began = time.monotonic()
    server.end(session)
    eventually(lambda: not _sleepers(), 5, "the hydration ends")
    assert time.monotonic() - began < 5
    server.wait_for_volume("closed.ipynb", "stopped")
    # The notebook can be opened again at once.
    server.start("closed.ipynb")


def test_cells_run_during_a_long_start_are_not_lost(server: Server) -> None:
    go = server.place.home / "go"
    wait = f"until [ -e '{go}' ]; do sleep 0.05; done"
    slow = server.place.kernelspec("waits", bootstrap_command=["sh", "-c", wait])
    session = server.begin("long-start.ipynb", kernel=slow).json()
    # The session is there although its hydration has not ended; the cell is run before it does.
    threading.Timer(1, go.touch).start()
    assert not go.exists()
    assert server.run(session["kernel"]["id"], "print(6 * 7)", 40) == "42\n"


@pytest.fixture(scope="module")
def fails(server: Server) -> str:
    """A kernelspec whose hydration fails."""
    command = ["sh", "-c", "echo no wheel >&2; exit 3"]
    return server.place.kernelspec("without-wheel", bootstrap_command=command)


def test_a_client_that_connects_after_a_failed_start_gets_the_reason(
    server: Server, fails: str
) -> None:
    kernel = server.begin("connected.ipynb", kernel=fails).json()["kernel"]["id"]
    with pytest.raises(Exception, match="500"):
        server.wait_for_kernel(kernel)
    reason = server.get(f"/api/kernels/{kernel}").json()["reason"]
    assert "no wheel" in reason


def test_a_client_that_polls_after_a_failed_start_gets_the_reason(
    server: Server, fails: str
) -> None:
    kernel = server.begin("polled.ipynb", kernel=fails).json()["kernel"]["id"]

    def reason() -> str:
        model = server.get(f"/api/kernels/{kernel}").json()
        return str(model.get("reason", "")) if model["execution_state"] == "dead" else ""

    assert "no wheel" in eventually(reason, what="the kernel is shown as dead")


def test_files_outlive_restarts_shutdowns_and_servers(place: Place) -> None:
    place.notebook("a.ipynb")
    count = "open('n', 'a').write('x'); print(len(open('n').read()))"
    with served(place) as server:
        session = server.start("a.ipynb")
        kernel = session["kernel"]["id"]
        assert server.run(kernel, count) == "1\n"
        assert server.ask("POST", f"/api/kernels/{kernel}/restart").ok
        assert eventually(lambda: server.run(kernel, count)) == "2\n"
        server.end(session)
        server.wait_for_volume("a.ipynb", "stopped")
        assert server.run(server.start("a.ipynb")["kernel"]["id"], count) == "3\n"
    with served(place) as server:
        assert server.run(server.start("a.ipynb")["kernel"]["id"], count) == "4\n"
        assert "could not be emitted" not in server.log


def test_changing_the_kernel_keeps_the_volume(server: Server) -> None:
    other = server.place.kernelspec("other")
    session = server.start("changed.ipynb")
    server.run(session["kernel"]["id"], "open('mine', 'w').close()")
    changed = server.ask(
        "PATCH", f"/api/sessions/{session['id']}", {"kernel": {"name": other}}
    ).json()
    assert changed["kernel"]["id"] != session["kernel"]["id"]
    files = server.run(changed["kernel"]["id"], "import os; print(os.listdir())", 40)
    assert "mine" in files
    volume = eventually(
        lambda: next(
            (v for v in server.volumes() if v["kernels"] == [changed["kernel"]["id"]]), None
        )
    )
    assert volume["session"] == server.place.session("changed.ipynb")


def test_the_second_of_two_servers_on_one_root_is_refused_with_the_holder_of_the_volume(
    place: Place,
) -> None:
    place.notebook("a.ipynb")
    with served(place) as first, served(place) as second:
        session = first.start("a.ipynb")
        kernel = second.begin("a.ipynb").json()["kernel"]["id"]
        with pytest.raises(Exception, match="500"):
            second.wait_for_kernel(kernel)
        reason = second.get(f"/api/kernels/{kernel}").json()["reason"]
        assert session["kernel"]["id"] in reason
        assert str(first.process.pid) in reason
        seen = second.volume("a.ipynb")
        assert seen is not None
        assert (seen["state"], seen["kernels"]) == ("active", [])
        first.end(session)
        second.wait_for_volume("a.ipynb", "stopped")
        second.start("b/../a.ipynb")


@pytest.mark.alone
def test_a_thousand_volumes_are_listed_within_a_second_by_the_server_after_a_killed_one(
    place: Place,
) -> None:
    place.configure(max_volumes=5000)
    hangs = place.kernelspec("hangs", bootstrap_command=["sleep", HANG])
    server = Server(place)
    try:
        running = server.start("running.ipynb")
        server.run(running["kernel"]["id"], "open('kept', 'w').write('x')")
        _fill(place, 1000)
        server.begin("hanging.ipynb", kernel=hangs)
        eventually(_sleepers, what="the hydration hangs")
        server.ask("POST", "/api/volumes/sweep")
    finally:
        server.kill()
    eventually(lambda: not _sleepers(), what="the hydration's processes are gone")
    with served(place) as after:
        began = time.monotonic()
        volumes = after.volumes()
        assert time.monotonic() - began < 1.0
        assert len(volumes) == 1002
        assert {v["state"] for v in volumes if v["name"].startswith("many")} <= {
            "stopped",
            "pruned",
        }
        # The killed server's kernel notices within a second or two, and then ends and frees the volume.
        after.wait_for_volume("running.ipynb", "stopped")
        session = after.start("running.ipynb")
        assert "kept" in after.run(session["kernel"]["id"], "import os; print(os.listdir())")
        after.start("hanging.ipynb")


def _state_on_disk(place: Place, path: str) -> State:
    """Return the state of a volume as the next process on the root finds it."""
    pool = Pool(VolumePool(root=str(place.root)))
    (state,) = (r.state for r in pool.volumes() if r.session == place.session(path))
    pool.close()
    return state


def _fill(place: Place, count: int) -> None:
    settings = VolumePool(root=str(place.root), max_volumes=5000)
    pool = Pool(settings, clock=lambda: datetime.now(timezone.utc))

    def make(number: int) -> None:
        made = pool.acquire(f"many/{number}.ipynb", KERNEL, kernel=f"k{number}")
        Path(made.path, "data").write_text("x")
        pool.release(made)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(make, range(count)))
    pool.close()


def _attempt(request: Callable[[], object]) -> threading.Thread:
    """Send a request in a thread; the server may stop before it answers."""

    def send() -> None:
        with contextlib.suppress(OSError):
            request()

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


def _sleepers() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.cmdline()[1:] == [HANG] and process.status() != "zombie":
                found.append(process)
        except psutil.Error:
            continue
    return found
