"""What a volume has of its environment, told without doing anything about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from provisioner.core.errors import HydrationFailed
from provisioner.hydration.runner import changed_inputs, record_of, recorded, within
from provisioner.hydration.step import Launch, Place, Step


class Condition(Enum):
    """How a volume stands with regard to one step."""

    FRESH = "up to date"
    MISSING = "not hydrated yet"
    INTERRUPTED = "interrupted"
    CHANGED = "out of date"
    DAMAGED = "damaged or moved"


@dataclass(frozen=True)
class StepState:
    """What a volume has of one step.

    Parameters
    ----------
    name
        The step.
    condition
        Whether a kernel that starts now finds it done; in any other condition, it is done then.
    at
        When it was done last; None if it never was.
    inputs
        What it was made from, by the names a person knows: a change of any makes it be made again.
    changed
        Those of them that are not as they were. Empty also where a step cannot name them.
    """

    name: str
    condition: Condition
    at: datetime | None
    inputs: tuple[str, ...]
    changed: tuple[str, ...] = ()


def examine(steps: Sequence[Step], place: Place, launch: Launch) -> Iterator[StepState]:
    """Compare what the volume has with what the steps declare; starts no process and changes nothing.

    Each step is looked at within what the volume has of those before it: how a step that is out of date will
    turn out, and with it what comes after, nobody knows before it is done.
    """
    records = recorded(place)
    for step in steps:
        record = record_of(step, records, place, launch)
        changed = changed_inputs(step, records, place, launch)
        yield StepState(
            name=step.name,
            condition=_condition(step, record, place, launch),
            at=_moment(record.get("at")),
            inputs=_names(record.get("inputs")),
            changed=changed,
        )
        try:
            launch = within(step, place, launch)
        except HydrationFailed:
            continue  # there is nothing of it yet


def _condition(step: Step, record: Mapping[str, Any], place: Place, launch: Launch) -> Condition:
    if "begun" in record:
        return Condition.INTERRUPTED
    if "key" not in record:
        return Condition.MISSING
    try:
        if record["key"] != step.key(place, launch):
            return Condition.CHANGED
        return Condition.FRESH if step.intact(place, launch) else Condition.DAMAGED
    except HydrationFailed:
        return Condition.DAMAGED


def _moment(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _names(inputs: object) -> tuple[str, ...]:
    return tuple(sorted(map(str, inputs))) if isinstance(inputs, dict) else ()
