"""The interface of a hydration step: what it depends on, how it hydrates, what the kernel gets from it.

A step knows no pool, no lease and no kernel. It runs in a worker thread, never on an event loop, and gets
everything that it may read as arguments. Steps run in a fixed order; each gets the launch as the steps before it
changed it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Literal, Protocol, runtime_checkable

from provisioner.core.progress import StepProgress


@dataclass(frozen=True)
class Launch:
    """What will be executed: the kernel's command line and its whole environment, secrets included."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    added: Mapping[str, str] = field(default_factory=dict)
    """The part of `env` that earlier steps have set. It comes from the declared environment and not from the server, so
    the hooks of later steps may see all of it."""


@dataclass(frozen=True)
class Pristine:
    """A hydrated volume of the same kernelspec that no session has used, so that its environment may be copied.

    A step copies only what has the same key and does not depend on the volume's path. What hooks made is made
    again by the hooks.
    """

    state: Path
    """The state directory of that volume."""
    is_pristine: Callable[[], bool]
    """Whether the volume is still unused. The step calls it after copying: the volume is not leased, so that a session
    can claim it at any time, and a copy counts only if the volume was unused until then."""


@dataclass(frozen=True)
class Place:
    """Where a step works.

    Parameters
    ----------
    volume
        The volume's directory, an absolute path without symbolic links. Hooks run in it.
    state
        A directory inside the volume for the environment and the steps' own records. It exists, is private
        to the user and moves with the volume. A step must not rely on its content being unchanged.
    refresh
        Hydrate also what is intact, and ask remote sources again: `hydrate` takes no short cut.
    template
        A volume to copy from, where that is faster.
    name
        The name of the Python environment: a volume has one for each Python (see `steps.python.owners`).
    """

    volume: Path
    state: Path
    refresh: bool = False
    template: Pristine | None = None
    kernelspec: str = ""
    name: str = "env"

    @property
    def environment(self) -> Path:
        """The root of the Python environment (`sys.prefix` of its kernels)."""
        return self.state / self.name

    @property
    def log(self) -> Path:
        """The file to which the output of hooks is appended."""
        return self.state / "hydration.log"

    def record(self, step: str) -> Path:
        """Return the file in which a step of this name may keep its record."""
        return self.state / f"{step}.json"


class Step(Protocol):
    """One way of making an environment.

    For each start the runner calls `key`. If the key differs from the recorded one, or `intact` returns False, it
    calls `hydrate` and then `key` again (a tool may have written a lock file). It always calls `environment`.
    """

    @property
    def name(self) -> str:
        """A short identifier, unique among a kernelspec's steps; it names the record and the log lines."""
        ...

    def key(self, place: Place, launch: Launch) -> str:
        """Digest all inputs: equal keys promise equal environments. Reads files, starts no process."""
        ...

    def intact(self, place: Place, launch: Launch) -> bool:
        """Whether what `hydrate` made still exists and fits this volume. Starts no process."""
        ...

    def hydrate(self, place: Place, launch: Launch, progress: StepProgress, cancel: Event) -> None:
        """Make the environment; all or nothing, even if the process is killed at any instant.

        Raises
        ------
        HydrationFailed
            With the tail of the real output.
        Cancelled
            Less than a second after `cancel` was set; every process that the step started has ended by then.
        """
        ...

    def environment(self, place: Place, launch: Launch) -> Launch:
        """Return the launch with this step's environment applied. Starts no process."""
        ...


def within(step: Step, place: Place, launch: Launch) -> Launch:
    """Return the launch in a step's environment, with what the step has set in `Launch.added`."""
    after = step.environment(place, launch)
    added = {n: v for n, v in launch.added.items() if n in after.env}
    added |= {n: v for n, v in after.env.items() if launch.env.get(n) != v}
    return replace(after, added=added)


@runtime_checkable
class Traceable(Protocol):
    """A step that can name the inputs of its key, so that a miss names what changed."""

    def inputs(self, place: Place, launch: Launch) -> Mapping[str, str]:
        """Return the digest of each input, by a name that the user knows (mostly a file's path)."""
        ...


@runtime_checkable
class Lasting(Protocol):
    """A step whose work stays whole when another kernelspec hydrates the same step with other inputs.

    The runner records it for each kernelspec, so that kernels of several kernelspecs may alternate in one volume
    without hydrating again. The work of any other step counts as lost once the same step ran with other inputs.
    """

    @property
    def lasts(self) -> Literal[True]:
        """Always True; the runner only checks that the attribute exists."""
        ...


@runtime_checkable
class Lenient(Protocol):
    """A step whose earlier environment stays whole when a new hydration fails, and may then be used."""

    @property
    def stale(self) -> Literal["fail", "warn"]:
        """Whether such a failure fails the start, or is a warning and the earlier environment is used."""
        ...
