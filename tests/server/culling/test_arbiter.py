"""The arbiter: which kernels it spares, and that its faults cost no kernel its variables and do not stop the server."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from provisioner.server.culling.arbiter import Arbiter, Judge
from tests.support.serving import eventually

HOUR = timedelta(hours=1)
LONG = timedelta(minutes=5)
AT_ONCE = timedelta(milliseconds=10)


def spared(judge: Judge | str, timeout: timedelta = LONG) -> bool:
    """Whether an arbiter that is called once spares a kernel."""

    async def ask() -> bool:
        arbiter = Arbiter(lambda: judge, logging.getLogger("test"), timeout)
        return await arbiter.spares("a.ipynb", "k", HOUR)

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("answer", "is_spared"),
    [(False, True), (True, False), (None, False), (0, True), (1, False), ("", True)],
)
def test_false_spares_a_kernel_and_none_does_not(answer: Any, is_spared: bool) -> None:
    assert spared(lambda session, kernel, idle: answer) is is_spared


def test_it_receives_the_session_the_kernel_and_the_idle_time() -> None:
    heard: list[Any] = []
    spared(lambda *arguments: heard.extend(arguments))
    assert heard == ["a.ipynb", "k", HOUR]


def test_without_an_arbiter_no_kernel_is_spared() -> None:
    assert not spared("")


async def _later(session: str, kernel: str, idle: timedelta) -> bool:
    return False


class _Vague:
    def __bool__(self) -> bool:
        raise ValueError("neither")


@pytest.mark.parametrize(
    ("judge", "reason"),
    [
        ("no.such.module", "No module named 'no'"),
        ("os.path.no_such_name", "no_such_name"),
        ("os.sep", "not callable"),
        (lambda: True, "positional"),
        (lambda *arguments: sys.exit("enough"), "SystemExit: enough"),
        (lambda *arguments: exec("raise KeyboardInterrupt"), "KeyboardInterrupt"),
        (lambda *arguments: _Vague(), "neither"),
        (_later, "coroutine"),
    ],
)
def test_an_arbiter_that_fails_spares_the_kernel_and_the_reason_is_logged(
    judge: Judge | str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert spared(judge)
    assert reason in caplog.text


@pytest.fixture
def stuck() -> Iterator[threading.Event]:
    """The event that a call waits for."""
    event = threading.Event()
    yield event
    event.set()


def test_an_arbiter_that_hangs_spares_all_kernels_and_takes_one_thread(
    stuck: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[str] = []

    def hang(session: str, kernel: str, idle: timedelta) -> bool:
        asked.append(kernel)
        stuck.wait()
        return True

    async def look() -> None:
        arbiter = Arbiter(lambda: hang, logging.getLogger("test"), AT_ONCE)
        kernels = [f"k{n}" for n in range(20)]
        assert all(await asyncio.gather(*(arbiter.spares("s", kernel, HOUR) for kernel in kernels)))
        assert await arbiter.spares("s", "later", HOUR)

    asyncio.run(look())
    eventually(lambda: asked)
    assert asked == ["k0"]
    assert "no answer in 0.01 s" in caplog.text
    assert "earlier question" in caplog.text


def test_an_arbiter_that_has_returned_is_called_again(stuck: threading.Event) -> None:
    def slow(session: str, kernel: str, idle: timedelta) -> bool:
        return kernel != "first" or stuck.wait()

    async def look() -> None:
        arbiter = Arbiter(lambda: slow, logging.getLogger("test"), AT_ONCE)
        assert await arbiter.spares("s", "first", HOUR)
        stuck.set()
        assert arbiter._last is not None
        await arbiter._last.over()
        arbiter._timeout = LONG
        assert not await arbiter.spares("s", "second", HOUR)

    asyncio.run(look())
