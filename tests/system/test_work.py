"""Blocking work that runs in a thread while an event loop waits for it."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading

import pytest

from provisioner.system.work import Work


def test_work_returns_its_result_or_raises_its_error() -> None:
    def fail(_: threading.Event) -> None:
        raise ValueError("no")

    async def run() -> None:
        done, failed = Work(lambda _: 42), Work(fail)
        await done.over()
        await failed.over()
        assert done.is_over
        assert failed.is_over
        assert done.result() == 42
        with pytest.raises(ValueError, match="no"):
            failed.result()

    asyncio.run(run())


def test_work_ends_when_it_is_cancelled() -> None:
    async def run() -> bool:
        work = Work(lambda cancel: cancel.wait(60))
        await asyncio.sleep(0)
        assert not work.is_over
        work.cancel()
        await work.over()
        return work.result()

    assert asyncio.run(run()) is True


def test_pieces_of_work_run_one_after_the_other_even_if_one_fails() -> None:
    order: list[str] = []
    go = threading.Event()

    def first(_: threading.Event) -> None:
        go.wait(60)
        order.append("first")
        raise ValueError("no")

    one = Work(first)
    two = Work(lambda _: order.append("second"), after=one)
    three = Work(lambda _: order.append("third"), after=two)
    assert not two.is_over
    go.set()
    three.join()
    assert order == ["first", "second", "third"]


def test_look_is_called_while_work_goes_on() -> None:
    seen, go = list[bool](), threading.Event()

    async def run() -> None:
        work = Work(lambda _: go.wait(60))

        def look() -> None:
            seen.append(work.is_over)
            go.set()

        await work.over(look)

    asyncio.run(run())
    assert seen[0] is False


def test_work_goes_on_when_its_waiter_is_cancelled_and_its_error_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    go = threading.Event()

    def fail(_: threading.Event) -> None:
        go.wait(60)
        raise ValueError("no")

    async def run() -> Work[None]:
        work = Work(fail)
        waiting = asyncio.ensure_future(work.over())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not work.is_over
        return work

    work = asyncio.run(run())
    go.set()  # the loop is closed by now
    work.join()
    assert work.is_over
    del work
    gc.collect()
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
