"""What a forked child must not share with its parent.

A fork copies all memory, all open files and one thread. Two things must not cross it:

- **Locks of the operating system.** `flock` belongs to the open file, and the child has a copy of that. The child would
  hold the lock for as long as it lives, whatever the parent closes. So every open file that carries a lock is a
  `Descriptor`, and the child closes its copy of each.
- **Locks of Python.** What another thread holds is never released in the child. So each object that has such locks
  makes them anew there: see `register`.

Connections of SQLite are a third: see `registry.database`.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Protocol

_PATIENCE_SECONDS = 1.0
"""How long a fork waits for a `Gate`; then the fork is made all the same."""


class ForkAware(Protocol):
    """An object that has to be changed in a forked child."""

    def after_fork_in_child(self) -> None:
        """Let go of what is the parent's, and make locks anew. Must neither wait nor raise."""


class Gate:
    """A lock that is held across each fork, as `logging` and `concurrent.futures` hold theirs.

    `before_fork` is called with each registered object before a fork, unless a thread is in a block of `closed`.
    """

    def __init__(self, before_fork: Callable[[Any], object] = lambda _: None) -> None:
        self.is_torn = False
        """Whether this process, or one that it descends from, was forked while a thread was in a block of `closed`."""
        self._before_fork = before_fork
        self._lock = threading.RLock()
        self._depth = 0
        self._registered: weakref.WeakSet[ForkAware] = weakref.WeakSet()
        os.register_at_fork(
            before=self._before,
            after_in_parent=self._after_in_parent,
            after_in_child=self._after_in_child,
        )

    @contextlib.contextmanager
    def closed(self) -> Iterator[None]:
        """Let no fork and no other thread in between; the block must be brief, as forks wait for its end."""
        with self._lock:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1

    def register(self, aware: ForkAware) -> None:
        """Call `after_fork_in_child` of an object in each forked child, for as long as the object lives."""
        with self._lock:
            self._registered.add(aware)

    def _before(self) -> None:
        if self._lock.acquire(timeout=_PATIENCE_SECONDS) and not self._depth:
            for aware in list(self._registered):
                self._before_fork(aware)

    def _after_in_parent(self) -> None:
        # Not held if `_before` waited in vain or was interrupted: the fork is made all the same.
        with contextlib.suppress(RuntimeError):
            self._lock.release()

    def _after_in_child(self) -> None:
        # This succeeds unless another thread of the parent held the lock.
        if not self._lock.acquire(blocking=False) or self._depth:
            self.is_torn = True
        self._lock, self._depth = threading.RLock(), 0
        for aware in list(self._registered):
            aware.after_fork_in_child()


_descriptors = Gate()
"""Closed while a file is opened and registered, or closed: for one system call that does not block.

No thread takes another lock meanwhile. A fork therefore waits for microseconds and takes part in no deadlock. Should a
system call hang, forks go on after a second.
"""

register = _descriptors.register
"""Calls `after_fork_in_child` of an object in each forked child, for as long as the object lives."""


class Descriptor:
    """An open file of this process alone, closed at the end of the block and in forked children.

    A process that is started (`subprocess`) shares the file if it is passed the descriptor, as with any open file.
    Python starts a process by an ordinary fork where it has to call something in the child (`preexec_fn`). With
    `is_passed_on`, a child that this thread forks keeps its copy.

    `opened` opens the file and returns its descriptor. It must not block: forks wait meanwhile.
    """

    def __init__(self, opened: Callable[[], int], *, is_passed_on: bool = False) -> None:
        self.number = -1
        """The operating system's number for it; -1 once it is closed."""
        self._keeper = threading.get_ident() if is_passed_on else None
        with _descriptors.closed():
            self.number = opened()
            register(self)

    def __enter__(self) -> int:
        return self.number

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it; calling this twice is harmless."""
        with _descriptors.closed():
            number, self.number = self.number, -1
            if number >= 0:
                os.close(number)

    def after_fork_in_child(self) -> None:
        """Close the child's copy."""
        if self._keeper != threading.get_ident():
            self.close()
