"""What a volume has of each step of its environment: read, never changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from provisioner.core.errors import HydrationFailed
from provisioner.hydration.journal import Journal, StepStatus
from provisioner.hydration.runner import within
from provisioner.hydration.step import Launch, Place, Step


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
            status=journal.status(step, launch),
            at=_moment(entry.get("at")),
            inputs=_names(entry.get("inputs")),
            changed=journal.changed_inputs(step, launch),
        )
        try:
            launch = within(step, place, launch)
        except HydrationFailed:
            continue  # the volume has nothing of it yet


def _moment(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _names(inputs: object) -> tuple[str, ...]:
    return tuple(sorted(map(str, inputs))) if isinstance(inputs, dict) else ()
