"""Whose turn it is to start: of one process's kernels no more at a time than there are cores for them.

A kernel keeps a core busy until it is up. Eight that are started at once on two cores are all up at the same late
moment, and whoever else wants a core meanwhile, such as the server that starts them, gets a tenth of one. Two at a
time, the last of them is up no later, the first in a quarter of the time, and the server goes on answering.

Nobody waits for long: a turn ends when the kernel sleeps, be it that it is up and waits for work or that it waits for
the disk, and after a few seconds whatever it is at. And who has waited for some seconds starts in any case.

Kernels may be started by several event loops, each in a thread of its own, and a loop may stop for good while a start
waits in it: who does not ask any more is passed over.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path

from provisioner.system import forks

LONGEST = timedelta(seconds=3)
"""How long a turn lasts at most: a kernel that computes on after that does so for its user."""

PATIENCE = timedelta(seconds=10)
"""How long is waited for a turn at most."""

_LOOK_SECONDS = 0.02
_RAREST_LOOK_SECONDS = 0.5
_SILENCE_SECONDS = 2.0
"""After how long without a look who waits is passed over; when looking again, it has its place again."""

_REST_SECONDS = 0.01
"""How far apart two looks are, at least, that find a kernel asleep when its turn is over."""


class Turn:
    """The right to start one kernel while others wait.

    Parameters
    ----------
    until
        When it ends in any case, by the clock of the turns.
    """

    def __init__(self, until: float) -> None:
        self._until = until
        self._process: int | None = None
        self._asleep_since: float | None = None

    def launched(self, process: int | None) -> None:
        """Tell which process has been started: the turn now lasts as long as that needs a core.

        Where nobody knows (None), the turn is over at the end of the launch.
        """
        self._process = process

    @property
    def is_launched(self) -> bool:
        """Whether it is known which process the turn is for."""
        return self._process is not None

    def is_over(self, now: float) -> bool:
        """Look whether the kernel still needs a core to start."""
        if now >= self._until:
            return True
        if self._process is None:
            return False
        if not _is_there(self._process):
            return True
        if _needs_core(self._process):
            self._asleep_since = None
            return False
        if self._asleep_since is None:
            self._asleep_since = now
        return now - self._asleep_since >= _REST_SECONDS


class _Ticket:
    """A place among those who wait."""

    def __init__(self, now: float, patience: timedelta) -> None:
        self.patient_until = now + patience.total_seconds()
        self.asked = now
        self.ahead = 0

    def is_silent(self, now: float) -> bool:
        return now - self.asked > _SILENCE_SECONDS


class Turns:
    """The turns of one process.

    Its methods may be called in any thread, in any event loop.

    Parameters
    ----------
    most
        How many turns there are at a time.
    longest
        How long one lasts at most.
    patience
        How long is waited for one at most.
    clock
        Seconds that only grow.
    """

    def __init__(
        self,
        most: int,
        *,
        longest: timedelta = LONGEST,
        patience: timedelta = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._longest = longest
        self._patience = patience
        self._clock = clock
        # Held while a turn is looked for and taken. To leave needs no lock, and must not: a start that nobody waits
        # for any more is ended by the garbage collector, which may run while this very thread holds it.
        self._lock = threading.Lock()
        self._waiting: dict[_Ticket, None] = {}
        self._turns: set[Turn] = set()
        forks.register(self)

    @contextlib.asynccontextmanager
    async def turn(self, look: Callable[[], object] = lambda: None) -> AsyncIterator[Turn]:
        """Wait for a turn, in the order of asking; within the block the kernel is launched.

        At the end of the block the turn is over, unless it was told of a kernel that has been launched.

        Parameters
        ----------
        look
            Called now and then while waiting; what it raises ends that.
        """
        turn = await self._take(look)
        try:
            yield turn
        finally:
            if not turn.is_launched:
                self._turns.discard(turn)

    async def _take(self, look: Callable[[], object]) -> Turn:
        ticket = _Ticket(self._clock(), self._patience)
        self._waiting[ticket] = None
        try:
            while (turn := self._ask(ticket)) is None:
                look()
                seconds = _LOOK_SECONDS * (1 + ticket.ahead // self._most)
                await asyncio.sleep(min(seconds, _RAREST_LOOK_SECONDS))
            return turn
        finally:
            self._waiting.pop(ticket, None)

    def _ask(self, ticket: _Ticket) -> Turn | None:
        """Take a turn if there is one for this ticket, or its patience is at an end."""
        with self._lock:
            now = ticket.asked = self._clock()
            ticket.ahead = self._ahead_of(ticket, now)
            if not ticket.ahead and len(self._turns) >= self._most:
                # Only who is first looks at the kernels; of what it finds over, those behind have their turns too.
                self._turns.difference_update([t for t in list(self._turns) if t.is_over(now)])
            is_free = ticket.ahead < self._most - len(self._turns)
            if not is_free and now < ticket.patient_until:
                return None
            turn = Turn(now + self._longest.total_seconds())
            self._turns.add(turn)
            return turn

    def _ahead_of(self, ticket: _Ticket, now: float) -> int:
        ahead = 0
        for other in list(self._waiting):
            if other is ticket:
                break
            ahead += not other.is_silent(now)
        return ahead

    def after_fork_in_child(self) -> None:
        """Forget who waits in the parent: they never go on here."""
        self._lock = threading.Lock()
        self._waiting = {}
        self._turns = set()


def cores(group: Path = Path("/proc/self/cgroup"), top: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many cores this process may keep busy.

    Those it may run on; in a container with a share of the machine no more than that, rounded up. A control group has
    no more than any of those that it lies in (cgroup v2, https://docs.kernel.org/admin-guide/cgroup-v2.html, cpu.max).

    Parameters
    ----------
    group, top
        Where Linux tells the control group of this process, and where these groups lie.
    """
    own = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(min([own, *_shares(group, top)]), 1)


def _shares(group: Path, top: Path) -> Iterator[int]:
    try:
        lines = group.read_text().splitlines()
    except OSError:
        return
    for name in (Path(line[4:]) for line in lines if line.startswith("0::/")):
        for directory in (name, *name.parents):
            # "max" is no number: no share.
            with contextlib.suppress(OSError, ValueError):
                quota, period = top.joinpath(directory, "cpu.max").read_text().split()
                yield math.ceil(int(quota) / int(period))


def _is_there(process: int) -> bool:
    """Whether there is such a process; True where nobody says it so cheaply."""
    return sys.platform != "linux" or os.path.exists(f"/proc/{process}")


def _needs_core(process: int) -> bool:
    """Whether a process, or one that it has started, runs or waits for a core; False of one that is gone.

    What starts a kernel may be a wrapper that sleeps until it ends. Of each process the first thread is looked at.
    Elsewhere than on Linux nobody says it so cheaply: there it is taken to sleep.
    """
    if sys.platform != "linux":
        return False
    family = [process]
    while family:
        directory = Path("/proc", str(family.pop()))
        with contextlib.suppress(OSError):
            status = (directory / "stat").read_text(errors="replace")
            # The name before it may contain anything; proc(5).
            if status.rpartition(")")[2].split()[0] == "R":
                return True
            children = directory / "task" / directory.name / "children"
            family += map(int, children.read_text().split())
    return False


turns = Turns(cores())
"""The turns of this process."""
