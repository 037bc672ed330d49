"""A server's sweeps and backups run in a child process, and however the server ends, the child ends too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.serving import Place, Server, eventually, served

FILL = "import os\nfor n in range(30): open(f'f{n}', 'wb').write(os.urandom(4_000_000))"
"""Enough data that a backup of it takes more than a second."""


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
    """Return the child processes in which a server sweeps or backs up."""
    children = psutil.Process(server.process.pid).children()
    return [child for child in children if "low_priority" in str(_command(child))]


def at_work(server: Server, place: Place) -> psutil.Process:
    """Return the child process of a server once it writes a backup."""
    eventually(lambda: partials(place), 60, "a backup is being written")
    (worker,) = workers(server)
    return worker


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
def test_a_server_makes_its_backups_in_a_child_process_of_the_lowest_priority(
    place: Place, volume: dict[str, Any], begin: Callable[[Server, str], object]
) -> None:
    soon = "1s" if begin is WAYS["swept by itself"] else "1h"
    place.configure(backup_after="1s", sweep_interval=soon)
    with served(place) as server:
        begin(server, volume["id"])
        eventually(lambda: 19 in map(_niceness, workers(server)), 60, "a child has priority 19")
        eventually(lambda: backups(place), 120, "the backup is made")


def test_settings_from_the_servers_command_line_reach_the_child(
    place: Place, volume: dict[str, Any]
) -> None:
    elsewhere = place.home / "elsewhere"
    path = f"/api/volumes/{volume['id']}/backup"
    with served(place, f"--VolumePool.backup_destination={elsewhere}") as server:
        assert server.job(server.ask("POST", path), 120)["state"] == "done"
    assert len(list(elsewhere.glob("v1-*.tar.zst"))) == 1


def test_a_server_that_stops_leaves_no_child_and_the_next_server_backs_up_again(
    place: Place, volume: dict[str, Any]
) -> None:
    path = f"/api/volumes/{volume['id']}/backup"
    server = Server(place)
    try:
        server.ask("POST", path)
        worker = at_work(server, place)
    finally:
        assert server.stop() < 5
    assert is_gone(worker)
    assert backups(place) == []
    with served(place) as after:
        assert after.job(after.ask("POST", path), 120)["state"] == "done"
        assert after.job(after.ask("POST", "/api/volumes/sweep"), 120)["state"] == "done"
    assert (len(backups(place)), len(partials(place))) == (1, 0)


def test_a_server_that_stops_kills_a_child_that_does_not_run(
    place: Place, volume: dict[str, Any]
) -> None:
    server = Server(place)
    try:
        server.ask("POST", f"/api/volumes/{volume['id']}/backup")
        worker = at_work(server, place)
        worker.suspend()
    finally:
        assert server.stop() < 5
    eventually(lambda: is_gone(worker), what="the child is gone")
    place.configure(backup_after="1s", sweep_interval="1h")
    with served(place) as after:
        assert after.job(after.ask("POST", "/api/volumes/sweep"), 120)["state"] == "done"
    assert (len(backups(place)), len(partials(place))) == (1, 0)


def test_the_child_of_a_killed_server_ends_within_seconds_and_the_next_sweep_backs_up(
    place: Place, volume: dict[str, Any]
) -> None:
    place.configure(backup_after="1s", sweep_interval="1h")
    server = Server(place)
    try:
        server.ask("POST", f"/api/volumes/{volume['id']}/backup")
        worker = at_work(server, place)
        worker.suspend()
    finally:
        server.kill()
    worker.resume()
    eventually(lambda: is_gone(worker), 10, "the child ends by itself")
    assert backups(place) == []
    with served(place) as after:
        assert after.job(after.ask("POST", "/api/volumes/sweep"), 120)["state"] == "done"
    assert (len(backups(place)), len(partials(place))) == (1, 0)


def test_a_child_that_is_killed_fails_its_job_in_one_line_and_nothing_else(
    place: Place, volume: dict[str, Any]
) -> None:
    path = f"/api/volumes/{volume['id']}/backup"
    with served(place) as server:
        begun = server.ask("POST", path)
        at_work(server, place).kill()
        failed = server.job(begun)
        assert (failed["state"], failed["error"]["code"]) == ("failed", "backup-failed")
        assert "is memory short" in failed["message"]
        assert server.job(server.ask("POST", path), 120)["state"] == "done"
        assert len(backups(place)) == 1


def test_a_kernel_that_starts_in_a_volume_ends_its_backup_within_seconds(
    place: Place, volume: dict[str, Any]
) -> None:
    with served(place) as server:
        begun = server.ask("POST", f"/api/volumes/{volume['id']}/backup")
        at_work(server, place)
        server.start("large.ipynb")
        assert server.job(begun)["state"] == "cancelled"
        assert backups(place) == []
