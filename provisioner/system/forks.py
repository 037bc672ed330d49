"""What a fork must not catch half-way, and what a forked child must let go of.

A fork copies all memory and one thread. What other threads were in the midst of stays half done in the child, and the
locks that they hold there are never released. So a fork waits, for a moment only, until no thread is at work at a
place where that would do harm; where one does not come out in time the fork goes ahead, and the child is told.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Iterator
from datetime import timedelta
from typing import Protocol

PATIENCE = timedelta(seconds=1)
"""How long a fork waits for threads that are at work, in all."""


class Member(Protocol):
    """What holds something that a forked child must not share with its parent."""

    def before_fork(self) -> None:
        """Put away what a child must not inherit. Called in the thread that forks, if nobody is at work inside."""

    def after_fork_in_child(self) -> None:
        """Let go of what is the parent's, and make locks anew. Nothing here may wait or raise."""


class Gate:
    """Lets threads in to do work that no fork may catch half-way, and keeps them out while one is made.

    One instance, `gate`, serves a process. No lock is held while work is done inside, so that a fork never waits for
    longer than its patience, whoever holds what.

    Parameters
    ----------
    patience
        How long a fork waits for those inside.
    """

    def __init__(self, patience: timedelta = PATIENCE) -> None:
        self.is_torn = False
        """Whether this process, or one that it descends from, was forked while somebody was at work inside."""
        self._patience = patience
        self._turn = threading.Condition()
        self._inside: list[tuple[int, Member | None]] = []
        self._closed_by: int | None = None
        self._members: weakref.WeakSet[Member] = weakref.WeakSet()
        self._own = threading.local()

    def join(self, member: Member) -> None:
        """Have a member told of forks for as long as it lives."""
        with self._turn:
            self._members.add(member)

    @contextlib.contextmanager
    def inside(self, member: Member | None = None) -> Iterator[None]:
        """Keep forks from catching this thread in the midst of what it does, which must be brief.

        Parameters
        ----------
        member
            Whose state is worked on; a fork that waits in vain leaves it alone.
        """
        entry = (threading.get_ident(), member)
        try:
            with self._turn:
                while not self._lets_in(entry[0]):
                    self._turn.wait()
                if self._closed_by == entry[0]:
                    # Another library's hook, of the very fork that closed the gate: the child must not rely on it.
                    self._forks[-1:] = [False]
                self._inside.append(entry)
            yield
        finally:
            with self._turn:
                with contextlib.suppress(ValueError):
                    self._inside.remove(entry)
                self._turn.notify_all()

    # -- the hooks of a fork ---------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Wait for those inside and let all members put away what they have; bounded by the patience."""
        # If this is interrupted the fork is made all the same (https://docs.python.org/3/library/os.html,
        # register_at_fork), so the worst is noted first.
        self._forks.append(False)
        deadline = time.monotonic() + self._patience.total_seconds()
        with self._turn:
            if not self._close(deadline):
                return
            is_empty = self._turn.wait_for(
                lambda: not self._inside, max(deadline - time.monotonic(), 0.0)
            )
            busy = {id(member) for _, member in self._inside}
            idle = [member for member in self._members if id(member) not in busy]
        for member in idle:
            member.before_fork()
        self._forks[-1] = is_empty

    def after_fork_in_parent(self) -> None:
        """Let threads in again; also called if the fork failed."""
        self._forks[-1:] = []
        if not self._forks:
            with self._turn:
                if self._closed_by == threading.get_ident():
                    self._closed_by = None
                    self._turn.notify_all()

    def after_fork_in_child(self) -> None:
        """Forget the parent's threads; all members let go of what is the parent's."""
        me = threading.get_ident()
        if self._forks[-1:] != [True]:
            self.is_torn = True
        self._forks[-1:] = []
        self._turn = threading.Condition()
        self._inside = [entry for entry in self._inside if entry[0] == me]
        self._closed_by = None
        for member in list(self._members):
            member.after_fork_in_child()

    def _close(self, deadline: float) -> bool:
        """Keep others from coming in; False if this thread is inside itself, or another one's fork takes too long."""
        me = threading.get_ident()
        if self._closed_by == me or self._is_inside(me):
            return False
        if not self._turn.wait_for(
            lambda: self._closed_by is None, max(deadline - time.monotonic(), 0.0)
        ):
            return False
        self._closed_by = me
        return True

    def _lets_in(self, ident: int) -> bool:
        # A thread that is inside already must come out before the fork that waits for it can go on.
        return self._closed_by in {None, ident} or self._is_inside(ident)

    def _is_inside(self, ident: int) -> bool:
        return any(inside == ident for inside, _ in self._inside)

    @property
    def _forks(self) -> list[bool]:
        """The forks that this thread is making, the outermost first: whether each found nobody inside."""
        forks: list[bool] | None = getattr(self._own, "forks", None)
        if forks is None:
            forks = self._own.forks = []
        return forks


gate = Gate()
"""The gate of this process."""

os.register_at_fork(
    before=gate.before_fork,
    after_in_parent=gate.after_fork_in_parent,
    after_in_child=gate.after_fork_in_child,
)
