"""When is an idle kernel shut down? Pure: what is known of the kernels and the time in, what to do now out.

Level-triggered: each look decides from what is. All that is kept between looks is who was warned, of what; a warning
belongs to one moment of last activity, so whatever a kernel does after it, or a kernel that took its place, voids it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum


class Phase(Enum):
    """What a kernel is at."""

    PENDING = "pending"
    """Its volume is being acquired or hydrated, or it is being restarted or shut down."""
    STARTING = "starting"
    """Its process runs and has not answered yet."""
    BUSY = "busy"
    IDLE = "idle"


@dataclass(frozen=True)
class KernelState:
    """One kernel as it is now.

    Parameters
    ----------
    kernel
        Its id.
    phase
        What it is at.
    last_activity
        When it last did something (UTC).
    limit
        How long it may be idle; None: for ever.
    connections
        How many front ends listen to it.
    has_queued_cells
        Whether it was found to have work that its phase does not show.
    is_vetoed
        Whether the arbiter spares it.
    """

    kernel: str
    phase: Phase
    last_activity: datetime
    limit: timedelta | None
    connections: int = 0
    has_queued_cells: bool = False
    is_vetoed: bool = False


@dataclass(frozen=True)
class Wish:
    """What a notebook asks for: how long its kernel may be idle; None: for ever."""

    limit: timedelta | None


@dataclass(frozen=True)
class Rules:
    """What holds for all kernels.

    Parameters
    ----------
    warning
        How long before the cull people are warned; half of a kernel's limit where that is shorter; None: not at all.
    cull_connected
        Whether kernels with a front end are culled too.
    patience
        How long a process that has not answered yet counts as starting.
    gap
        A longer time between two looks means that the machine slept or its clock was set: nobody can have seen the
        warnings, so they are given again.
    """

    warning: timedelta | None
    cull_connected: bool = False
    patience: timedelta = timedelta(minutes=1)
    gap: timedelta = timedelta(minutes=5)


@dataclass(frozen=True)
class Warn:
    """Tell people that the kernel is shut down at `at`."""

    kernel: str
    at: datetime


@dataclass(frozen=True)
class Withdraw:
    """Tell people that the kernel they were warned of stays."""

    kernel: str


@dataclass(frozen=True)
class Cull:
    """Shut the kernel down, if its last activity still is `last_activity`."""

    kernel: str
    last_activity: datetime
    idle: timedelta


Action = Warn | Withdraw | Cull


@dataclass(frozen=True)
class Given:
    """A warning that was given: of which moment of last activity, and of a cull at what time."""

    last_activity: datetime
    at: datetime


@dataclass(frozen=True)
class Memory:
    """What one look leaves to the next."""

    looked: datetime | None = None
    warned: Mapping[str, Given] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """What to do now, what to keep in mind, and when to look again at the latest (None: as usual)."""

    actions: tuple[Action, ...]
    memory: Memory
    next_look: datetime | None


def decide(kernels: Iterable[KernelState], memory: Memory, rules: Rules, now: datetime) -> Decision:
    """Return what is to be done to kernels now.

    A kernel is culled only after a warning, and not before the time that the warning named. A clock that goes
    backwards makes kernels younger and culls nothing.
    """
    slept = memory.looked is not None and now - memory.looked > rules.gap
    actions: list[Action] = []
    warned: dict[str, Given] = {}
    looks: list[datetime] = []
    for state in kernels:
        known = memory.warned.get(state.kernel)
        due = cull_due(state, rules)
        if due is None or (known is not None and known.last_activity != state.last_activity):
            if known is not None:
                actions.append(Withdraw(state.kernel))
            known = None
        if due is None or state.limit is None:
            continue
        lead = _lead(state.limit, rules)
        if known is None and now < due - lead:
            looks.append(due - lead)
            continue
        if lead and (known is None or slept):
            known = Given(state.last_activity, max(due, now + lead))
            actions.append(Warn(state.kernel, known.at))
        at = due if known is None else known.at
        if now >= at:
            actions.append(Cull(state.kernel, state.last_activity, now - state.last_activity))
            continue
        looks.append(at)
        if known is not None:
            warned[state.kernel] = known
    return Decision(tuple(actions), Memory(now, warned), min(looks, default=None))


def cull_due(state: KernelState, rules: Rules) -> datetime | None:
    """Return when a kernel is culled if nothing happens to it before; None as long as something spares it."""
    if state.limit is None or state.phase in {Phase.PENDING, Phase.BUSY}:
        return None
    if state.has_queued_cells or state.is_vetoed:
        return None
    if state.connections and not rules.cull_connected:
        return None
    wait = state.limit
    if state.phase is Phase.STARTING:
        wait = max(wait, rules.patience)
    return state.last_activity + wait


def idle_limit(
    policy: timedelta | None, wish: Wish | None, longest: timedelta | None
) -> timedelta | None:
    """Return how long a kernel may be idle: its notebook's wish, cut to what the administrator allows, or the policy.

    Parameters
    ----------
    policy
        What the kernelspec's policy says; None: for ever.
    wish
        What the notebook asks for, if it does.
    longest
        The longest that a notebook may ask for; None: any.
    """
    if wish is None:
        return policy
    if longest is None:
        return wish.limit
    return longest if wish.limit is None else min(wish.limit, longest)


def _lead(limit: timedelta, rules: Rules) -> timedelta:
    return timedelta(0) if rules.warning is None else min(rules.warning, limit / 2)
