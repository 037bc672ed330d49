"""How a command's work ends at Ctrl-C and SIGTERM, and how work on several volumes goes on after a failure."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TypeAlias, TypeVar

from provisioner.cli.output.terminal import complain
from provisioner.core.errors import Cancelled, VolumeError

T = TypeVar("T")

Handler: TypeAlias = "Callable[[int, FrameType | None], object] | signal.Handlers | int | None"
"""A handler as `signal.signal` accepts it."""


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C and SIGTERM set, so that work ends in good order; a second signal ends it at once.

    Raises
    ------
    KeyboardInterrupt
        If the work raises `Cancelled` because of such a signal.
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
def handling(handlers: Mapping[signal.Signals, Handler]) -> Iterator[None]:
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
    """Work on each item, and complain about those that fail; return these with their errors.

    Parameters
    ----------
    work
        Called with an item, and with an event that is set when the work shall end.
    items
        The items.

    Raises
    ------
    KeyboardInterrupt
        If a signal ended the work; the remaining items are skipped.
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
