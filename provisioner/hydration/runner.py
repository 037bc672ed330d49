"""Runs the steps of a kernelspec: no step where the volume has it all, else the missing ones, under a lock."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from threading import Event

from provisioner.core.errors import Cancelled, HydrationFailed
from provisioner.core.logins import without_logins
from provisioner.core.progress import StepProgress
from provisioner.hydration.hooks.process import holding
from provisioner.hydration.journal import Journal
from provisioner.hydration.step import Launch, Lenient, Place, Step, within
from provisioner.system import locks

_LOCK = "hydration.lock"
_POLL = 0.02  # seconds between two attempts at a lock that another start holds


@dataclass(frozen=True)
class StepReport:
    """The result of one step."""

    name: str
    hit: bool
    """Whether the volume had it already."""
    changed: tuple[str, ...] = ()
    """The inputs that changed, which is why an environment was made again."""
    warning: str = ""
    """Why an earlier environment is used in place of the declared one; empty otherwise."""


@dataclass(frozen=True)
class Hydrated:
    """A launch inside its environment, with a report for each step."""

    launch: Launch
    report: tuple[StepReport, ...]


def hydrate(
    steps: Sequence[Step],
    place: Place,
    launch: Launch,
    *,
    repeat: str,
    progress: StepProgress,
    cancel: Event,
    force: bool = False,
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
) -> Hydrated:
    """Bring a volume's environment to what the steps declare, and return the launch inside it.

    Where the volume has it all, this takes no lock and starts no process. Otherwise one caller hydrates; other
    callers wait for it and then find the work done. A caller may be killed at any instant: completed steps are
    recorded, the next caller does the others, and the lock is free when the last process of the killed hydration
    has ended.

    Parameters
    ----------
    steps
        In their order; each gets the launch as the steps before it changed it.
    place, launch
        The volume, whose lease the caller holds, and the kernel's launch without any step.
    repeat
        The command that repeats a failed hydration, for messages.
    force
        Hydrate also what the volume has, and ask remote sources again.
    now
        Returns the time that is recorded for each step.

    Raises
    ------
    HydrationFailed
        With the tail of the real output and the command that repeats it.
    Cancelled
        `cancel` was set; no process of the hydration is left.
    """
    run = _Run(replace(place, refresh=force), repeat, _without_logins(progress), cancel, now)
    if not force and (hydrated := look(steps, run.place, launch, own=True)):
        return hydrated
    try:
        with _locked(place.state / _LOCK, run.progress, cancel):
            return run.all(steps, launch)
    except OSError as error:  # of the lock
        unwritten = _unwritten(error, place)
        raise HydrationFailed(f"{unwritten.args[0]} (to repeat it: {repeat})") from error


def look(
    steps: Sequence[Step], place: Place, launch: Launch, *, own: bool = False
) -> Hydrated | None:
    """Return the launch inside its environment if the volume has all of it, else None; starts no process.

    With `own`, a step that only another kernelspec has completed is missing: `hydrate` records it for this one.
    """
    journal = Journal.read(place)
    for step in steps:
        if not journal.is_done(step, launch, own=own):
            return None
        launch = within(step, place, launch)
    return Hydrated(launch, tuple(StepReport(step.name, True) for step in steps))


@dataclass(frozen=True)
class _Run:
    """One hydration, under the volume's lock."""

    place: Place
    repeat: str
    progress: StepProgress
    cancel: Event
    now: Callable[[], datetime]

    def all(self, steps: Sequence[Step], launch: Launch) -> Hydrated:
        """Complete the steps that are missing, in their order."""
        report = []
        for step in steps:
            report.append(self._one(step, launch))
            launch = within(step, self.place, launch)
        return Hydrated(launch, tuple(report))

    def _one(self, step: Step, launch: Launch) -> StepReport:
        """Complete one step if the volume does not have it."""
        journal = Journal.read(self.place)
        if not self.place.refresh and journal.is_done(step, launch):
            if not journal.is_done(step, launch, own=True):
                # The other kernelspec's entry disappears when its declaration changes.
                journal.write(step, journal.entry(step, launch))
            return StepReport(step.name, True)
        changed = journal.changed_inputs(step, launch)
        if changed:
            self.progress(step.name, f"{', '.join(changed)} changed; hydrating again")
        return StepReport(step.name, False, changed, self._hydrate(step, launch, journal))

    def _hydrate(self, step: Step, launch: Launch, journal: Journal) -> str:
        """Hydrate and record one step; return a warning if its earlier environment is used instead."""
        if self.cancel.is_set():
            raise Cancelled("hydration was cancelled; start the kernel again to resume it")
        journal.begin(step)
        try:
            step.hydrate(self.place, launch, self.progress, self.cancel)
            journal.complete(step, launch, self.now())
        except (HydrationFailed, OSError) as raised:
            error = (
                raised if isinstance(raised, HydrationFailed) else _unwritten(raised, self.place)
            )
            earlier = journal.earlier(step)
            journal.write(step, earlier)
            message = without_logins(error.args[0])
            is_lenient = isinstance(step, Lenient) and step.stale == "warn"
            has_earlier = is_lenient and "key" in (earlier or {})
            if not has_earlier or not step.intact(self.place, launch):
                message = f"{step.name}: {message} (to repeat it: {self.repeat})"
                raise HydrationFailed(message, tail=error.tail) from raised
            warning = f"{message}; the earlier environment is used"
            self.progress(step.name, f"warning: {warning}")
            return warning
        return ""


def _unwritten(error: OSError, place: Place) -> HydrationFailed:
    """Return the failure of a hydration that could not write a file."""
    return HydrationFailed(
        f"the volume's environment could not be written ({error.strerror or error}: "
        f"{error.filename or place.state}): make room for it, or move away what is in its way"
    )


def _without_logins(progress: StepProgress) -> StepProgress:
    """Remove logins from what steps report: the address of a reference or a requirement may contain one."""

    def report(step: str, message: str, fraction: float | None = None) -> None:
        progress(step, without_logins(message), fraction)

    return report


@contextlib.contextmanager
def _locked(path: Path, progress: StepProgress, cancel: Event) -> Iterator[None]:
    """Hold the volume's hydration lock, which the hooks started meanwhile hold as well."""
    is_waiting = False

    def pause(waited: float) -> None:
        nonlocal is_waiting
        if not is_waiting:
            progress("hydration", "waiting for another start of this volume to hydrate it")
            is_waiting = True
        if cancel.wait(_POLL):
            raise Cancelled("hydration was cancelled while another start was hydrating")

    with locks.lock(path, pause) as lock, holding(lock):
        yield
