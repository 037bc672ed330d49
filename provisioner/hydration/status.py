"""What a volume has of each step of its environment: read, never changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from provisioner.core.errors import HydrationFailed
from provisioner.hydration.journal import Entry, Journal, is_interrupted
from provisioner.hydration.runner import within
from provisioner.hydration.step import Launch, Place, Step


class StepStatus(Enum):
    """What a volume has of one step."""

    FRESH = "up to date"
    MISSING = "not hydrated yet"
    INTERRUPTED = "interrupted"
    CHANGED = "out of date"
    DAMAGED = "damaged or moved"


@dataclass(frozen=True)
class StepState:
    """The status of one step, with its history.

    Parameters
    ----------
    name
        The step.
    status
        `FRESH` if a kernel that starts now finds the step done; with any other status, the start hydrates it.
    at
        When it was completed last; None if it never was.
    inputs
        What it was made from, by names that the user knows: when one changes, the step is hydrated again.
    changed
        The inputs that have changed since. Empty also for a step that cannot name them.
    """

    name: str
    status: StepStatus
    at: datetime | None
    inputs: tuple[str, ...]
    changed: tuple[str, ...] = ()


def examine(steps: Sequence[Step], place: Place, launch: Launch) -> Iterator[StepState]:
    """Compare what the volume has with what the steps declare; starts no process and changes nothing.

    Each step is examined inside the environment that the volume has of the steps before it. What a step that is
    out of date will change for the steps after it is not known before it is hydrated.
    """
    journal = Journal.read(place)
    for step in steps:
        entry = journal.entry(step, launch)
        yield StepState(
            name=step.name,
            status=_status(step, entry, place, launch),
            at=_moment(entry.get("at")),
            inputs=_names(entry.get("inputs")),
            changed=journal.changed_inputs(step, launch),
        )
        try:
            launch = within(step, place, launch)
        except HydrationFailed:
            continue  # the volume has nothing of it yet


def _status(step: Step, entry: Entry, place: Place, launch: Launch) -> StepStatus:
    if is_interrupted(entry):
        return StepStatus.INTERRUPTED
    if "key" not in entry:
        return StepStatus.MISSING
    try:
        if entry["key"] != step.key(place, launch):
            return StepStatus.CHANGED
        return StepStatus.FRESH if step.intact(place, launch) else StepStatus.DAMAGED
    except HydrationFailed:
        return StepStatus.DAMAGED


def _moment(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _names(inputs: object) -> tuple[str, ...]:
    return tuple(sorted(map(str, inputs))) if isinstance(inputs, dict) else ()
