"""A server's sweeps and backups run in a child process, and when the server stops, the child ends too."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.support.processes import is_gone, low_priority_children
from tests.support.serving import Place, Server, eventually, served

LARGE = 120_000_000
"""Enough data that a backup of it takes more than a second."""


@pytest.fixture
def volume(place: Place) -> str:
    """The id of a large stopped volume."""
    volume = place.stopped_volume("large.ipynb")
    (place.root / "volumes" / volume / "large").write_bytes(os.urandom(LARGE))
    return volume


def at_work(server: Server, place: Place) -> psutil.Process:
    """Return the child process of a server once it writes a backup."""
    eventually(lambda: partials(place), 60, "a backup is being written")
    (worker,) = low_priority_children(server.process.pid)
    return worker


def _niceness(process: psutil.Process) -> int | None:
    try:
        return int(process.nice())
    except psutil.Error:
        return None


def backups(place: Place, volume: str) -> list[Path]:
    return list(place.root.glob(f"backups/{volume}*.tar.zst"))


def partials(place: Place) -> list[Path]:
    return list(place.root.glob("backups/.partial*"))


WAYS: dict[str, Callable[[Server, str], object]] = {
    "asked for": lambda server, volume: server.ask("POST", f"/api/volumes/{volume}/backup"),
    "swept when asked": lambda server, volume: server.ask("POST", "/api/volumes/sweep"),
    "swept by itself": lambda server, volume: None,
}


@pytest.mark.parametrize("begin", WAYS.values(), ids=WAYS)
def test_a_server_makes_its_backups_in_a_child_process_of_the_lowest_priority_with_its_settings(
    place: Place, volume: str, begin: Callable[[Server, str], object]
) -> None:
    elsewhere = place.home / "elsewhere"
    soon = "1s" if begin is WAYS["swept by itself"] else "1h"
    place.configure(backup_after="1s", sweep_interval=soon)
    with served(place, f"--VolumePool.backup_destination={elsewhere}") as server:
        begin(server, volume)
        children = partial(low_priority_children, server.process.pid)
        eventually(lambda: 19 in map(_niceness, children()), 60, "a child has priority 19")
        eventually(lambda: list(elsewhere.glob(f"{volume}*.zst")), 120, "the backup is made")


@pytest.mark.parametrize("is_starved", [False, True], ids=["running", "without a core"])
def test_a_server_that_stops_leaves_no_child_and_the_next_server_backs_up_again(
    place: Place, volume: str, is_starved: bool
) -> None:
    place.configure(backup_after="1s", sweep_interval="1h")
    server = Server(place)
    try:
        server.start("other.ipynb")
        server.ask("POST", f"/api/volumes/{volume}/backup")
        worker = at_work(server, place)
        if is_starved:
            worker.suspend()
    finally:
        assert server.stop() < 5
    eventually(lambda: is_gone(worker), what="the child is gone")
    assert backups(place, volume) == []
    with served(place) as after:
        assert after.job(after.ask("POST", "/api/volumes/sweep"), 120)["state"] == "done"
    assert (len(backups(place, volume)), len(partials(place))) == (1, 0)
