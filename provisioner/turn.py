"""Whose turn it is to start: of one process's kernels no more at a time than there are cores for them.

A kernel keeps a core busy until it is up. Eight that are started at once on two cores are all up at the same late
moment, and whoever else wants a core meanwhile, such as the server that starts them, gets a tenth of one. Two at a
time, the last of them is up no later, the first in a quarter of the time, and the server goes on answering.

Nobody waits for long: a turn ends when the kernel sleeps, be it that it is up and waits for work or that it waits for
the disk, and after a few seconds whatever it is at. And who has waited for some seconds starts in any case.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

from .forks import gate

LONGEST = timedelta(seconds=3)
"""How long a turn lasts at most: a kernel that computes on after that does so for its user."""

PATIENCE = timedelta(seconds=10)
"""How long is waited for a turn at most."""

_LOOK_SECONDS = 0.02
_RAREST_LOOK_SECONDS = 0.5
_RESTS = 2
"""At how many looks in a row a kernel is found asleep when its turn is over."""


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
        self._rests = 0

    def launched(self, process: int | None) -> None:
        """Tell which process has been started: the turn now lasts as long as that needs a core."""
        self._process = process

    @property
    def is_launched(self) -> bool:
        """Whether it is known which process the turn is for."""
        return self._process is not None

    def is_over(self, now: float) -> bool:
        """Look whether the kernel still needs a core to start."""
        if self._process is not None:
            self._rests = 0 if _needs_core(self._process) else self._rests + 1
        return self._rests >= _RESTS or now >= self._until


class Turns:
    """The turns of one process.

    No lock: only who is first among the waiting looks at the turns and takes one.

    Parameters
    ----------
    most
        How many turns there are at a time.
    clock
        Seconds that only grow.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._waiting: list[object] = []
        self._turns: list[Turn] = []
        gate.join(self)

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
                with contextlib.suppress(ValueError):  # over for so long that it is forgotten
                    self._turns.remove(turn)

    async def _take(self, look: Callable[[], object]) -> Turn:
        deadline = self._clock() + PATIENCE.total_seconds()
        ticket = object()
        self._waiting.append(ticket)
        try:
            while self._clock() < deadline:
                ahead = self._waiting.index(ticket)
                if not ahead and self._is_one_free():
                    break
                look()
                await asyncio.sleep(min(_LOOK_SECONDS * (ahead + 1), _RAREST_LOOK_SECONDS))
            turn = Turn(self._clock() + LONGEST.total_seconds())
            self._turns.append(turn)
            return turn
        finally:
            self._waiting.remove(ticket)

    def _is_one_free(self) -> bool:
        if len(self._turns) >= self._most:
            now = self._clock()
            for turn in [turn for turn in self._turns if turn.is_over(now)]:
                self._turns.remove(turn)
        return len(self._turns) < self._most

    def before_fork(self) -> None:
        """Go on: there is nothing to put away."""

    def after_fork_in_child(self) -> None:
        """Forget who waits in the parent: they never go on here."""
        self._waiting = []
        self._turns = []


def cores(group: Path = Path("/proc/self/cgroup"), top: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many cores this process may keep busy.

    Those it may run on; in a container with a share of the machine no more than that, rounded up (cgroup v2,
    https://docs.kernel.org/admin-guide/cgroup-v2.html, cpu.max).

    Parameters
    ----------
    group, top
        Where Linux tells the control group of this process, and where these groups lie.
    """
    own = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        names = [line[4:] for line in group.read_text().splitlines() if line.startswith("0::/")]
        quota, period = top.joinpath(*names, "cpu.max").read_text().split()
        own = min(own, math.ceil(int(quota) / int(period)))  # "max": no share, ValueError
    return max(own, 1)


def _needs_core(process: int) -> bool:
    """Whether a process's first thread runs or waits for a core; False of one that is gone.

    Elsewhere than on Linux nobody says it so cheaply: there it is taken to sleep.
    """
    if sys.platform != "linux":
        return False
    try:
        status = Path(f"/proc/{process}/stat").read_text(errors="replace")
    except OSError:
        return False
    # The name before it may contain anything; proc(5).
    return status.rpartition(")")[2].split()[0] == "R"


turns = Turns(cores())
"""The turns of this process."""
