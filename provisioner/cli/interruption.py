"""How a command's work ends at Ctrl-C and SIGTERM, and how work on several volumes goes on after a failure."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from provisioner.cli.output.terminal import complain
from provisioner.core.errors import Cancelled, VolumeError

T = TypeVar("T")


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C and SIGTERM set, so that work ends in good order; a second signal ends it at once.

    If the work raises `Cancelled` because of such a signal, this becomes a `KeyboardInterrupt`.
    """
    cancel = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def request(number: int, frame: FrameType | None) -> None:
        cancel.set()
        signal.signal(number, before[signal.Signals(number)])

    with handling(dict.fromkeys(before, request)):
        try:
            yield cancel
        except Cancelled as error:
            if cancel.is_set():
                raise KeyboardInterrupt from error
            raise


@contextmanager
def handling(handlers: Mapping[signal.Signals, Any]) -> Iterator[None]:
    """Handle signals while the context lasts."""
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def failures_of(
    work: Callable[[T, threading.Event], None], items: Iterable[T]
) -> list[tuple[T, VolumeError]]:
    """Work on each item; complain about those that fail, and return them with their errors.

    A signal sets the event. If that ends the work, `KeyboardInterrupt` is raised, and the remaining items are skipped.
    """
    failed: list[tuple[T, VolumeError]] = []
    with interruptible() as cancel:
        for item in items:
            try:
                work(item, cancel)
            except VolumeError as error:
                if isinstance(error, Cancelled) and cancel.is_set():
                    raise
                complain(str(error))
                failed.append((item, error))
    return failed
