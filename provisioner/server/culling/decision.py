"""Decides when an idle kernel is shut down. Pure: takes the state of the kernels and the time, returns what to do now.

Level-triggered: each check decides from the present state. Only the warnings given are remembered between checks. A
warning belongs to one moment of last activity: any later activity of the kernel, or a kernel in its place, voids it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum


class Phase(Enum):
    """What a kernel is doing."""

    PENDING = "pending"
    """Its volume is being acquired or hydrated, or it is being restarted or shut down."""
    STARTING = "starting"
    """Its process runs but has not answered yet."""
    BUSY = "busy"
    IDLE = "idle"


@dataclass(frozen=True)
class KernelState:
    """One kernel as it is now.

    Parameters
    ----------
    limit
        How long it may be idle; None: for ever.
    connections
        How many front ends are connected to it.
    is_spared
        Whether it has work that its phase does not show, or the arbiter spares it.
    """

    kernel: str
    phase: Phase
    last_activity: datetime
    limit: timedelta | None
    connections: int = 0
    is_spared: bool = False


@dataclass(frozen=True)
class NotebookLimit:
    """How long its kernel may be idle according to a notebook; None: for ever."""

    limit: timedelta | None


@dataclass(frozen=True)
class Rules:
    """The rules for all kernels.

    Parameters
    ----------
    warning
        How long before the cull users are warned; half of a kernel's limit if that is shorter; None: not at all.
    cull_connected
        Whether kernels with a connected front end are culled too.
    start_time
        How long a process that has not answered yet counts as starting.
    gap
        A longer time between two checks means that the machine slept or its clock was set. No user can have seen the
        warnings then, so they are given again.
    """

    warning: timedelta | None
    cull_connected: bool = False
    start_time: timedelta = timedelta(minutes=1)
    gap: timedelta = timedelta(minutes=5)


@dataclass(frozen=True)
class Warn:
    """Warn users that the kernel is shut down at `at`."""

    kernel: str
    at: datetime


@dataclass(frozen=True)
class Withdraw:
    """Tell users that the kernel they were warned of stays."""

    kernel: str


@dataclass(frozen=True)
class Cull:
    """Shut the kernel down if its last activity is still `last_activity`."""

    kernel: str
    last_activity: datetime
    idle: timedelta


Action = Warn | Withdraw | Cull


@dataclass(frozen=True)
class GivenWarning:
    """A warning that was given: for which moment of last activity, and for a cull at which time."""

    last_activity: datetime
    at: datetime


@dataclass(frozen=True)
class Memory:
    """What one check remembers for the next."""

    checked: datetime | None = None
    warned: Mapping[str, GivenWarning] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """What to do now, what to remember, and when to check again at the latest (None: after the interval)."""

    actions: tuple[Action, ...]
    memory: Memory
    next_check: datetime | None


def decide(kernels: Iterable[KernelState], memory: Memory, rules: Rules, now: datetime) -> Decision:
    """Return what to do now.

    A kernel is culled only after a warning, and not before the time that the warning named. A clock that goes
    backwards makes kernels younger and culls none.
    """
    slept = memory.checked is not None and now - memory.checked > rules.gap
    actions: list[Action] = []
    warned: dict[str, GivenWarning] = {}
    checks: list[datetime] = []
    for state in kernels:
        known = memory.warned.get(state.kernel)
        due = cull_due(state, rules)
        if due is None or (known is not None and known.last_activity != state.last_activity):
            if known is not None:
                actions.append(Withdraw(state.kernel))
            known = None
        if due is None or state.limit is None:
            continue
        ahead = min(rules.warning or timedelta(0), state.limit / 2)
        if known is None and now < due - ahead:
            checks.append(due - ahead)
            continue
        if ahead and (known is None or slept):
            known = GivenWarning(state.last_activity, max(due, now + ahead))
            actions.append(Warn(state.kernel, known.at))
        at = due if known is None else known.at
        if now >= at:
            actions.append(Cull(state.kernel, state.last_activity, now - state.last_activity))
            continue
        checks.append(at)
        if known is not None:
            warned[state.kernel] = known
    return Decision(tuple(actions), Memory(now, warned), min(checks, default=None))


def cull_due(state: KernelState, rules: Rules) -> datetime | None:
    """Return when a kernel is culled if its state stays the same; None while something spares it."""
    if state.limit is None or state.phase in {Phase.PENDING, Phase.BUSY} or state.is_spared:
        return None
    if state.connections and not rules.cull_connected:
        return None
    if state.phase is Phase.STARTING:
        return state.last_activity + max(state.limit, rules.start_time)
    return state.last_activity + state.limit


def idle_limit(
    policy: timedelta | None, notebook: NotebookLimit | None, longest: timedelta | None
) -> timedelta | None:
    """Return how long a kernel may be idle (None: for ever): its notebook's limit up to `longest`, or the policy's."""
    if notebook is None:
        return policy
    if longest is None:
        return notebook.limit
    return longest if notebook.limit is None else min(notebook.limit, longest)
