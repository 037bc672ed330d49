"""Runs the steps of a kernelspec: nothing where the volume has it all, else what is missing, under a lock."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from threading import Event
from typing import Any

from provisioner.core.errors import Cancelled, HydrationFailed
from provisioner.core.logins import without_logins
from provisioner.core.progress import StepProgress
from provisioner.hydration.hooks.process import holding
from provisioner.hydration.records import read_record, write_record
from provisioner.hydration.step import Lasting, Launch, Lenient, Place, Step, Traceable
from provisioner.system import locks

_RECORD = "hydration"
_LOCK = "hydration.lock"
_POLL = 0.02  # seconds between two looks at a lock that another kernel's start holds


@dataclass(frozen=True)
class StepReport:
    """What became of one step.

    Parameters
    ----------
    name
        The step.
    hit
        The volume had it.
    took
        How long the step took.
    changed
        The inputs that are not as they were: why an environment was made again.
    warning
        Why an earlier environment is used in place of the declared one; empty otherwise.
    """

    name: str
    hit: bool
    took: timedelta
    changed: tuple[str, ...] = ()
    warning: str = ""


@dataclass(frozen=True)
class Hydrated:
    """A launch within its environment, and how that came about."""

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
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
) -> Hydrated:
    """Bring a volume's environment to what the steps declare, and return the launch inside it.

    Where the volume has it all, no lock is taken and no process is started. Otherwise one caller hydrates
    and others that ask meanwhile wait for it, and find it done. A caller may be killed at any instant: what
    a step has completed is recorded, what it has not is done by the next one, and the lock is free when the
    last process of the killed hydration is gone.

    Parameters
    ----------
    steps
        In their order; each sees the launch that the steps before it left.
    place
        The volume, whose lease the caller holds.
    launch
        The kernel's command line and environment without any step.
    repeat
        The command that repeats a failed hydration.
    progress
        Told what goes on.
    cancel
        Ends the hydration in less than a second.
    force
        Hydrate also what the volume has, asking remote sources anew.
    clock
        Seconds that only grow.
    now
        The time of day that is recorded with what was done.

    Raises
    ------
    HydrationFailed
        With the tail of the real output and the command that repeats it.
    Cancelled
        `cancel` was set; nothing of the hydration runs any more.
    """
    progress = _without_logins(progress)
    run = _Run(replace(place, refresh=force), launch, repeat, progress, cancel, clock, now)
    if not force and (hydrated := _look(steps, run.place, launch, clock, own=True)):
        return hydrated
    try:
        with _locked(place.state / _LOCK, progress, cancel):
            return run.bring(steps)
    except OSError as error:
        raise HydrationFailed(
            f"the volume's environment could not be written ({error.strerror or error}: "
            f"{error.filename or place.state}): make room for it, or move away what is in its way "
            f"(to repeat it: {repeat})"
        ) from error


def look(steps: Sequence[Step], place: Place, launch: Launch) -> Hydrated | None:
    """Return the launch within its environment if the volume has all of it, else None; starts no process."""
    return _look(steps, place, launch, time.monotonic)


def _look(
    steps: Sequence[Step],
    place: Place,
    launch: Launch,
    clock: Callable[[], float],
    *,
    own: bool = False,
) -> Hydrated | None:
    records, report = recorded(place), []
    for step in steps:
        begin = clock()
        if not _is_hit(step, records, place, launch) or (
            own and _is_borrowed(step, records, place)
        ):
            return None
        launch = within(step, place, launch)
        took = timedelta(seconds=clock() - begin)
        report.append(StepReport(step.name, hit=True, took=took))
    return Hydrated(launch, tuple(report))


@dataclass(frozen=True)
class _Run:
    place: Place
    launch: Launch
    repeat: str
    progress: StepProgress
    cancel: Event
    clock: Callable[[], float]
    now: Callable[[], datetime]

    def bring(self, steps: Sequence[Step]) -> Hydrated:
        """Do what is missing, step by step; the caller holds the lock."""
        launch, report = self.launch, []
        for step in steps:
            begin = self.clock()
            records = recorded(self.place)
            if not self.place.refresh and _is_hit(step, records, self.place, launch):
                if _is_borrowed(step, records, self.place):
                    # The other kernelspec's own entry goes when its declaration changes.
                    self._record(step, record_of(step, records, self.place, launch))
                outcome = StepReport(step.name, hit=True, took=self._since(begin))
            else:
                changed = changed_inputs(step, records, self.place, launch)
                if changed:
                    self.progress(step.name, f"{', '.join(changed)} changed; hydrating again")
                warning = self._hydrate(step, launch, records)
                outcome = StepReport(step.name, False, self._since(begin), changed, warning)
            launch = within(step, self.place, launch)
            report.append(outcome)
        return Hydrated(launch, tuple(report))

    def _hydrate(self, step: Step, launch: Launch, records: Mapping[str, Any]) -> str:
        """Hydrate one step and record it; return a warning if its earlier environment must do."""
        if self.cancel.is_set():
            raise Cancelled("hydration was cancelled; start the kernel again to resume it")
        # Until it is done, the earlier record is no proof: a crash may have left what belongs to neither.
        earlier = records.get(_entry(step, self.place), records.get(step.name))
        self._record(step, {**(earlier or {}), "begun": True})
        try:
            step.hydrate(self.place, launch, self.progress, self.cancel)
            inputs = step.inputs(self.place, launch) if isinstance(step, Traceable) else {}
            done = {
                "key": step.key(self.place, launch),
                "inputs": dict(inputs),
                "at": self.now().isoformat(),
            }
        except HydrationFailed as error:
            self._record(step, earlier)
            if not self._may_be_stale(step, launch, earlier or {}):
                raise self._with_cure(step, error) from error
            warning = f"{without_logins(error.args[0])}; the earlier environment is used"
            self.progress(step.name, f"warning: {warning}")
            return warning
        self._record(step, done)
        return ""

    def _record(self, step: Step, record: Mapping[str, Any] | None) -> None:
        records, entry = recorded(self.place), _entry(step, self.place)
        records.pop(entry, None)
        if record is not None:
            records[entry] = dict(record)
        write_record(self.place.record(_RECORD), records)

    def _may_be_stale(self, step: Step, launch: Launch, earlier: Mapping[str, Any]) -> bool:
        return (
            isinstance(step, Lenient)
            and step.stale == "warn"
            and "key" in earlier
            and step.intact(self.place, launch)
        )

    def _with_cure(self, step: Step, error: HydrationFailed) -> HydrationFailed:
        said = f"{step.name}: {without_logins(error.args[0])} (to repeat it: {self.repeat})"
        return HydrationFailed(said, tail=error.tail)

    def _since(self, begin: float) -> timedelta:
        return timedelta(seconds=self.clock() - begin)


def _without_logins(progress: StepProgress) -> StepProgress:
    """Leave logins out of what steps themselves tell: a reference or a requirement may have one in its address."""

    def tell(step: str, message: str, fraction: float | None = None) -> None:
        progress(step, without_logins(message), fraction)

    return tell


def within(step: Step, place: Place, launch: Launch) -> Launch:
    """Apply a step, and keep account of what steps have set: later hooks may see that."""
    after = step.environment(place, launch)
    added = {n: v for n, v in launch.added.items() if n in after.env}
    added |= {n: v for n, v in after.env.items() if launch.env.get(n) != v}
    return replace(after, added=added)


def recorded(place: Place) -> dict[str, Any]:
    """Return what the volume says of all steps, to be asked by `record_of`."""
    records = read_record(place.record(_RECORD))
    return {name: record for name, record in records.items() if isinstance(record, dict)}


def record_of(
    step: Step, records: Mapping[str, Any], place: Place, launch: Launch
) -> Mapping[str, Any]:
    """Return what the volume says of a step; empty if nothing.

    Of a step that lasts and that this kernelspec has not had done, it is what another kernelspec has had done of
    the very same: a bootstrap command of two kernelspecs runs once.
    """
    own: Mapping[str, Any] | None = records.get(_entry(step, place))
    if own is not None or not isinstance(step, Lasting):
        return own or {}
    # Recorded under the step's bare name, before each kernelspec had an entry of its own.
    before: Mapping[str, Any] = records.get(step.name, {})
    try:
        key = step.key(place, launch)
    except HydrationFailed:
        return before
    of_others = (r for n, r in records.items() if n == step.name or n.startswith(_entry(step)))
    return next((r for r in of_others if r.get("key") == key and "begun" not in r), before)


def _entry(step: Step, place: Place | None = None) -> str:
    """Return the name under which a step is recorded: for this kernelspec, if it lasts."""
    if not isinstance(step, Lasting):
        return step.name
    return f"{step.name} of {place.kernelspec if place else ''}"


def _is_borrowed(step: Step, records: Mapping[str, Any], place: Place) -> bool:
    return _entry(step, place) not in records


def _is_hit(step: Step, records: Mapping[str, Any], place: Place, launch: Launch) -> bool:
    record = record_of(step, records, place, launch)
    if "begun" in record or "key" not in record:
        return False
    try:
        return bool(record["key"] == step.key(place, launch)) and step.intact(place, launch)
    except HydrationFailed:
        return False  # `hydrate` fails likewise, and is where failures are answered


def changed_inputs(
    step: Step, records: Mapping[str, Any], place: Place, launch: Launch
) -> tuple[str, ...]:
    """Name the inputs that are not as they were recorded; none where nothing was recorded."""
    before = record_of(step, records, place, launch).get("inputs")
    if not isinstance(step, Traceable) or not isinstance(before, dict):
        return ()
    try:
        now = step.inputs(place, launch)
    except HydrationFailed:
        return ()
    return tuple(sorted(n for n in before.keys() | now.keys() if before.get(n) != now.get(n)))


@contextlib.contextmanager
def _locked(path: Path, progress: StepProgress, cancel: Event) -> Iterator[None]:
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
