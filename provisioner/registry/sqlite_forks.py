"""Forks of a process that uses SQLite.

SQLite's locks belong to the process. A forked child that used the parent's connection, or a connection of its own
beside it, would believe that it held locks that the parent holds, and lose what it writes
(https://sqlite.org/howtocorrupt.html, 2.6). So all connections are closed before a fork, and each side opens its own.

A fork waits up to a second for a thread that is in the midst of a transaction. If it waits in vain, or the forking
thread itself is in the midst of one, the child is torn: it must never touch SQLite again, whose own mutexes are as the
parent's threads left them.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Iterator
from typing import Protocol

_PATIENCE_SECONDS = 1.0

_sqlite = threading.RLock()
"""Held by the thread that uses SQLite, and across each fork."""

_depth = 0
"""How often the thread that holds `_sqlite` has entered SQLite."""

_is_torn = False


class Connected(Protocol):
    """An object with a connection."""

    @property
    def is_connected(self) -> bool:
        """Whether the connection is open."""

    def disconnect(self) -> None:
        """Close the connection. Called before a fork, unless a thread is in the midst of a transaction."""

    def after_fork_in_child(self) -> None:
        """Make locks anew, and drop a connection that is the parent's without closing it."""


_registered: weakref.WeakSet[Connected] = weakref.WeakSet()


def register(connected: Connected) -> None:
    """Disconnect an object before each fork, for as long as the object lives."""
    with _sqlite:
        _registered.add(connected)


@contextlib.contextmanager
def in_sqlite() -> Iterator[None]:
    """Let this thread alone use SQLite within the block. Forks wait for its end, so it must be brief."""
    global _depth
    with _sqlite:
        _depth += 1
        try:
            yield
        finally:
            _depth -= 1


def is_torn() -> bool:
    """Whether this process, or one that it descends from, was forked in the midst of a transaction."""
    return _is_torn


def _before() -> None:
    if _sqlite.acquire(timeout=_PATIENCE_SECONDS) and not _depth:
        for connected in list(_registered):
            connected.disconnect()


def _after_in_parent() -> None:
    # Not held if `_before` waited in vain or was interrupted: the fork is made all the same.
    with contextlib.suppress(RuntimeError):
        _sqlite.release()


def _after_in_child() -> None:
    global _sqlite, _depth, _is_torn
    # This succeeds unless another thread of the parent held the lock.
    is_clean = _sqlite.acquire(blocking=False) and not _depth
    if not is_clean or any(connected.is_connected for connected in _registered):
        _is_torn = True
    _sqlite, _depth = threading.RLock(), 0
    for connected in list(_registered):
        connected.after_fork_in_child()


os.register_at_fork(
    before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
)
