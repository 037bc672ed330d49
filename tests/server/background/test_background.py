"""Threads that run as long as a server does."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from provisioner.pool.pool import Pool
from provisioner.server.background.maintenance import Maintenance
from provisioner.server.background.threads import Background
from provisioner.server.background.warming import Warming
from provisioner.settings.pool import VolumePool
from tests.support.pools import wait_for

LOG = logging.getLogger("test")


class Endless(Background):
    """Runs until it is stopped, and then as long as the test holds it."""

    def __init__(self) -> None:
        super().__init__("endless")
        self.begun, self.held = threading.Event(), threading.Event()

    def _run(self) -> None:
        self.begun.set()
        self._cancel.wait()
        self.held.wait()


def test_a_thread_ends_when_it_is_stopped() -> None:
    endless = Endless()
    endless.held.set()
    endless.start()
    assert endless.begun.wait(20)
    assert endless.stop(20)
    assert endless.stop(20), "again does no harm"


def test_a_thread_that_hangs_does_not_keep_the_server_alive() -> None:
    endless = Endless()
    endless.start()
    assert endless.begun.wait(20)
    assert not endless.stop(0.01)
    assert endless._thread.daemon
    endless.held.set()
    assert endless.stop(20)


@pytest.fixture
def lazy(tmp_path: Path) -> Pool:
    """A pool whose next sweep is hours away."""
    return Pool(VolumePool(root=str(tmp_path / "root"), sweep_interval="5h"))


MAKERS: list[Callable[[Pool], Background]] = [
    lambda pool: Maintenance(pool, LOG, lambda report: None),
    lambda pool: Warming(pool, LOG),
]


@pytest.mark.parametrize("make", MAKERS, ids=["maintenance", "warming"])
def test_a_thread_that_waits_for_its_interval_stops_at_once(
    lazy: Pool, make: Callable[[Pool], Background]
) -> None:
    background = make(lazy)
    assert background.stop(20), "before it was begun"
    background = make(lazy)
    background.start()
    assert background.stop(20)
    lazy.close()


def test_warming_stops_at_once_while_it_waits_for_a_kernel_to_start(lazy: Pool) -> None:
    warming = Warming(lazy, LOG, after=timedelta(milliseconds=1))
    warming.start()
    wait_for(lambda: not warming._wake.is_set())
    assert warming.stop(20)
    lazy.close()


def test_warming_ignores_events_after_its_end(lazy: Pool) -> None:
    warming = Warming(lazy, LOG)
    warming.stop(20)
    heard = warming._wake
    heard.clear()
    acquired = lazy.acquire("a", "python3", kernel="k")
    lazy.release(acquired)
    assert not heard.is_set()
    lazy.close()
