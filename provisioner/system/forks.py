"""What a forked child must not share with its parent.

A fork copies all memory, all open files and one thread. Two things must not cross it:

- **Locks of the operating system.** `flock` belongs to the open file, and the child has a copy of that. The child would
  hold the lock for as long as it lives, whatever the parent closes. So every open file that carries a lock is a
  `Descriptor`, and the child closes its copy of each.
- **Locks of Python.** What another thread holds is never released in the child. So each object that has such locks
  makes them anew there: see `register`.

One lock is held across each fork, as `logging` and `concurrent.futures` hold theirs. It guards what lies between the
opening of a file and the note that the file is open, so that no fork falls in between. No thread keeps it for longer
than one system call that does not block, and no thread takes another lock while it has it. A fork therefore waits
for microseconds and takes part in no deadlock; should a system call hang, the fork goes on after a second.

SQLite needs more than this, since its connections must not cross a fork either: see `registry.database`.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable
from typing import Protocol

_PATIENCE_SECONDS = 1.0

_lock = threading.RLock()


class ForkAware(Protocol):
    """An object that has to be changed in a forked child."""

    def after_fork_in_child(self) -> None:
        """Let go of what is the parent's, and make locks anew. Must neither wait nor raise."""


_registered: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def register(aware: ForkAware) -> None:
    """Call `after_fork_in_child` of an object in each forked child, for as long as the object lives."""
    with _lock:
        _registered.add(aware)


class Descriptor:
    """An open file of this process alone, closed at the end of the block and in forked children.

    A process that is started (`subprocess`) shares the file if it is passed the descriptor, as with any open file.

    Parameters
    ----------
    opened
        Opens the file and returns its descriptor. Must not block: forks wait meanwhile.
    is_passed_on
        Whether a process that this thread starts is to have it. Python starts a process by an ordinary fork where it
        has to call something in the child (`preexec_fn`); that child then keeps its copy.
    """

    def __init__(self, opened: Callable[[], int], *, is_passed_on: bool = False) -> None:
        self.number = -1
        """The operating system's number for it; -1 once it is closed."""
        self._keeper = threading.get_ident() if is_passed_on else None
        with _lock:
            self.number = opened()
            _registered.add(self)

    def __enter__(self) -> int:
        return self.number

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it; calling this twice is harmless."""
        with _lock:
            number, self.number = self.number, -1
            if number >= 0:
                os.close(number)

    def after_fork_in_child(self) -> None:
        """Close the child's copy."""
        if self._keeper != threading.get_ident():
            self.close()


def _before() -> None:
    _lock.acquire(timeout=_PATIENCE_SECONDS)


def _after_in_parent() -> None:
    # Not held if `_before` waited in vain or was interrupted: the fork is made all the same.
    with contextlib.suppress(RuntimeError):
        _lock.release()


def _after_in_child() -> None:
    global _lock
    _lock = threading.RLock()
    for aware in list(_registered):
        aware.after_fork_in_child()


os.register_at_fork(
    before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
)
