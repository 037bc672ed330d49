"""A limit on how many kernels of this process start at a time: as many as there are cores.

A kernel keeps a core busy until it is up. Where eight start at once on two cores, the server that starts them answers
at up to three times its idle 99th percentile; two at a time, at half of that, and the last kernel is up no later
(benchmarks/server.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LONGEST_SECONDS = 3.0
"""After so long a kernel counts as up, whatever it does: from there on it computes for its user."""

PATIENCE_SECONDS = 10.0
"""After so long a start no longer waits for the others."""

_LOOK_SECONDS = 0.05


@dataclass(eq=False)
class Slot:
    """One kernel that is starting; `until` says when it counts as up in any case."""

    until: float
    _is_launched: bool = False
    _process: int | None = None
    _asleep_since: float = math.inf

    def launched(self, process: int | None) -> None:
        """Note the kernel's process; None where the launch failed, which ends the slot."""
        self._is_launched, self._process = True, process

    def is_over(self, now: float) -> bool:
        """Whether the kernel needs its core no more: it waits for work or for the disk, or has ended."""
        if now >= self.until:
            return True
        if not self._is_launched:
            return False
        state = _state(self._process)
        self._asleep_since = math.inf if state == "R" else min(self._asleep_since, now)
        return state in {None, "Z"} or now - self._asleep_since >= _LOOK_SECONDS / 2


class Throttle:
    """Slots for kernels that start.

    It has no locks, so that threads, forks and event loops that stop cannot harm it: two threads that ask in the same
    instant may both get the last slot, and the slots of a forked child's parent end by themselves.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._slots: list[Slot] = []

    async def slot(self, look: Callable[[], object]) -> Slot:
        """Wait for a slot and take it.

        `look` is called now and then, and last when the slot is taken; what it raises ends the waiting.
        """
        patient_until = time.monotonic() + PATIENCE_SECONDS
        look()
        while self._is_full() and time.monotonic() < patient_until:
            await asyncio.sleep(_LOOK_SECONDS)
            look()
        slot = Slot(time.monotonic() + LONGEST_SECONDS)
        self._slots.append(slot)
        return slot

    def _is_full(self) -> bool:
        now = time.monotonic()
        for slot in [slot for slot in self._slots if slot.is_over(now)]:
            with contextlib.suppress(ValueError):  # another thread has removed it
                self._slots.remove(slot)
        return len(self._slots) >= self._most


def cores(share: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return how many cores this process may keep busy; in a container no more than its share of the machine.

    `share` has the limit of a container's control group (https://docs.kernel.org/admin-guide/cgroup-v2.html).
    """
    own = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # "max" is no number: no limit
        quota, period = share.read_text().split()
        own = min(own, math.ceil(int(quota) / int(period)))
    return max(own, 1)


def _state(process: int | None) -> str | None:
    """Return the state of a process, `R` if it runs or waits for a core; None if it has ended or there is no /proc."""
    try:
        status = Path(f"/proc/{process}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The program's name stands before the state and may contain anything; proc(5).
    return status.rpartition(")")[2].split()[0]


throttle = Throttle(cores())
"""The limit of this process."""
