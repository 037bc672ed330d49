"""The journal of a volume: which steps were completed in it, when, and from which inputs; and what is out of date."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from provisioner.core.errors import HydrationFailed
from provisioner.hydration.records import read_record, write_record
from provisioner.hydration.step import Lasting, Launch, Place, Step, Traceable, within

_BEGUN = "begun"
"""Marks a step that was begun and not completed: what it left proves nothing."""

Entry = Mapping[str, Any]
"""What is recorded of a step: its `key`, its `inputs`, and the time `at` which it was completed."""


class StepStatus(Enum):
    """What a volume has of one step."""

    FRESH = "up to date"
    MISSING = "not hydrated yet"
    INTERRUPTED = "interrupted"
    CHANGED = "out of date"
    DAMAGED = "damaged or moved"


@dataclass(frozen=True)
class StepState:
    """What a volume has of one step, with its history."""

    name: str
    status: StepStatus
    """`FRESH` if a kernel that starts now finds the step done; with any other status, the start hydrates it."""
    at: datetime | None
    """When it was completed last; None if it never was."""
    inputs: tuple[str, ...]
    """What it was made from, by names that the user knows: when one changes, the step is hydrated again."""
    changed: tuple[str, ...]
    """The inputs that have changed since. Empty also for a step that cannot name them."""


@dataclass(frozen=True)
class Journal:
    """What a volume recorded of all steps until the journal was read."""

    place: Place
    entries: Mapping[str, Entry]

    @classmethod
    def read(cls, place: Place) -> Journal:
        """Read the journal of a volume; a missing or damaged one is empty."""
        found = read_record(place.record("hydration"))
        return cls(place, {name: entry for name, entry in found.items() if isinstance(entry, dict)})

    def entry(self, step: Step, launch: Launch) -> Entry:
        """Return what is recorded of a step; empty if nothing is.

        A lasting step that this kernelspec has not completed has the entry of another kernelspec that completed
        the same step with the same key: a bootstrap command of two kernelspecs runs once.
        """
        own = self.entries.get(self._name(step))
        if own is not None or not isinstance(step, Lasting):
            return own or {}
        # Earlier versions recorded one entry under the step's name, for all kernelspecs.
        unnamed = self.entries.get(step.name, {})
        try:
            key = step.key(self.place, launch)
        except HydrationFailed:
            return unnamed
        of_any = (e for n, e in self.entries.items() if n.split(" of ")[0] == step.name)
        return next((e for e in of_any if e.get("key") == key and _BEGUN not in e), unnamed)

    def status(self, step: Step, launch: Launch) -> StepStatus:
        """Compare what the volume has with what a step declares; starts no process."""
        entry = self.entry(step, launch)
        if _BEGUN in entry:
            return StepStatus.INTERRUPTED
        if "key" not in entry:
            return StepStatus.MISSING
        try:
            if entry["key"] != step.key(self.place, launch):
                return StepStatus.CHANGED
            is_intact = step.intact(self.place, launch)
        except HydrationFailed:
            is_intact = False  # `hydrate` fails in the same way, and reports it
        return StepStatus.FRESH if is_intact else StepStatus.DAMAGED

    def is_done(self, step: Step, launch: Launch, *, own: bool = False) -> bool:
        """Whether the volume has what a step declares; with `own`, recorded for this kernelspec itself."""
        is_recorded = not own or self._name(step) in self.entries
        return is_recorded and self.status(step, launch) is StepStatus.FRESH

    def changed_inputs(self, step: Step, launch: Launch) -> tuple[str, ...]:
        """Return the names of the inputs that differ from the recorded ones; empty where none were recorded."""
        before = self.entry(step, launch).get("inputs")
        if not isinstance(step, Traceable) or not isinstance(before, dict):
            return ()
        try:
            now = step.inputs(self.place, launch)
        except HydrationFailed:
            return ()
        return tuple(sorted(n for n in before.keys() | now.keys() if before.get(n) != now.get(n)))

    def earlier(self, step: Step) -> Entry | None:
        """Return the entry from which a step is hydrated again; None for the first time."""
        return self.entries.get(self._name(step), self.entries.get(step.name))

    def begin(self, step: Step) -> None:
        """Record that a step has begun: after a crash, what it left may belong to no entry."""
        self.write(step, {**(self.earlier(step) or {}), _BEGUN: True})

    def complete(self, step: Step, launch: Launch, at: datetime) -> None:
        """Record that a step was completed at this moment."""
        inputs = step.inputs(self.place, launch) if isinstance(step, Traceable) else {}
        key = step.key(self.place, launch)
        self.write(step, {"key": key, "inputs": dict(inputs), "at": at.isoformat()})

    def write(self, step: Step, entry: Entry | None) -> None:
        """Replace the entry of a step, or remove it; the caller holds the hydration lock."""
        entries, name = dict(self.entries), self._name(step)
        entries.pop(name, None)
        if entry is not None:
            entries[name] = dict(entry)
        write_record(self.place.record("hydration"), entries)

    def _name(self, step: Step) -> str:
        """Return the name of a step's entry: a lasting step has one for each kernelspec."""
        return f"{step.name} of {self.place.kernelspec}" if isinstance(step, Lasting) else step.name


def examine(steps: Sequence[Step], place: Place, launch: Launch) -> Iterator[StepState]:
    """Compare what the volume has with what the steps declare; starts no process and changes nothing.

    Each step is examined inside the environment that the volume has of the steps before it. What a step that is
    out of date will change for the steps after it is not known before it is hydrated.
    """
    journal = Journal.read(place)
    for step in steps:
        entry = journal.entry(step, launch)
        at, inputs = None, entry.get("inputs")
        with contextlib.suppress(KeyError, TypeError, ValueError):
            at = datetime.fromisoformat(entry["at"])
        yield StepState(
            step.name,
            journal.status(step, launch),
            at,
            tuple(sorted(inputs)) if isinstance(inputs, dict) else (),
            journal.changed_inputs(step, launch),
        )
        # A volume that has nothing of the step yet has no environment of it.
        with contextlib.suppress(HydrationFailed):
            launch = within(step, place, launch)
