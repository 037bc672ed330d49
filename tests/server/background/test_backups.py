"""Backups that a server makes: in a process apart, of which nothing is left however the server ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.serving import Place, Server, eventually, served

FILL = "import os\nfor n in range(30): open(f'f{n}', 'wb').write(os.urandom(4_000_000))"
"""So much that backing it up takes a second and more."""


@pytest.fixture
def volume(place: Place) -> dict[str, Any]:
    """A large stopped volume, without a server."""
    with served(place) as server:
        session = server.start("large.ipynb")
        server.run(session["kernel"]["id"], FILL)
        server.ask("DELETE", f"/api/sessions/{session['id']}")

        def stopped() -> dict[str, Any] | None:
            found = server.volume("large.ipynb")
            return found if found is not None and found["state"] == "stopped" else None

        return eventually(stopped)


def workers(server: Server) -> list[psutil.Process]:
    """Return the processes that work on the backups of a server."""
    children = psutil.Process(server.process.pid).children()
    return [child for child in children if "provisioner.backup.child" in str(_command(child))]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _niceness(process: psutil.Process) -> int | None:
    try:
        return int(process.nice())
    except psutil.Error:
        return None


def is_gone(process: psutil.Process) -> bool:
    try:
        # In a container without an init nobody may reap what was left to it.
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def backups(place: Place) -> list[Path]:
    return list(place.root.glob("backups/v1-*.tar.zst"))


def partials(place: Place) -> list[Path]:
    return list(place.root.glob("backups/.partial*"))


WAYS: dict[str, Callable[[Server, str], object]] = {
    "asked for": lambda server, volume: server.ask("POST", f"/api/volumes/{volume}/backup"),
    "swept when asked": lambda server, volume: server.ask("POST", "/api/volumes/sweep"),
    "swept by itself": lambda server, volume: None,
}


@pytest.mark.parametrize("begin", WAYS.values(), ids=WAYS)
def test_a_server_makes_its_backups_in_a_process_apart_of_the_lowest_priority(
    place: Place, volume: dict[str, Any], begin: Callable[[Server, str], object]
) -> None:
    soon = "1s" if begin is WAYS["swept by itself"] else "1h"
    place.configure(backup_after="1s", sweep_interval=soon)
    with served(place) as server:
        begin(server, volume["id"])
        eventually(lambda: 19 in map(_niceness, workers(server)), 60, "a process gives way")
        eventually(lambda: backups(place), 120, "the backup is made")


def test_a_server_told_to_go_leaves_no_process_and_no_file_and_the_next_backs_up_again(
    place: Place, volume: dict[str, Any]
) -> None:
    path = f"/api/volumes/{volume['id']}/backup"
    server = Server(place)
    try:
        server.ask("POST", path)
        (worker,) = eventually(lambda: workers(server), 60, "a process works on it")
        worker.suspend()  # until the server has gone; it need not get a core to be ended
    finally:
        server.stop()
    eventually(lambda: is_gone(worker), what="the process is gone")
    assert (backups(place), partials(place)) == ([], [])
    with served(place) as after:
        assert after.job(after.ask("POST", path), 120)["state"] == "done"
    assert len(backups(place)) == 1


def test_of_a_killed_server_the_process_ends_and_the_next_sweep_takes_what_is_left(
    place: Place, volume: dict[str, Any]
) -> None:
    place.configure(backup_after="1s", sweep_interval="1h")
    server = Server(place)
    try:
        server.ask("POST", f"/api/volumes/{volume['id']}/backup")
        (worker,) = eventually(lambda: workers(server), 60, "a process works on it")
        worker.suspend()
    finally:
        server.kill()
    worker.resume()
    eventually(lambda: is_gone(worker), 60, "the process ends by itself")
    assert (len(backups(place)), len(partials(place))) == (0, 1)
    with served(place) as after:
        assert after.job(after.ask("POST", "/api/volumes/sweep"), 120)["state"] == "done"
    assert (len(backups(place)), len(partials(place))) == (1, 0)


def test_a_process_that_is_killed_fails_its_job_in_one_line_and_nothing_else(
    place: Place, volume: dict[str, Any]
) -> None:
    path = f"/api/volumes/{volume['id']}/backup"
    with served(place) as server:
        begun = server.ask("POST", path)
        (worker,) = eventually(lambda: workers(server), 60, "a process works on it")
        worker.kill()
        failed = server.job(begun)
        assert (failed["state"], failed["error"]["code"]) == ("failed", "backup-failed")
        assert "is memory short" in failed["message"]
        assert partials(place) == []
        assert server.job(server.ask("POST", path), 120)["state"] == "done"
