"""The face of a hydration step: what it depends on, how it is done, what the kernel gets from it.

A step knows no pool, no lease and no kernel. It runs in a worker thread, never on an event loop, and it is
handed all that it may read. Steps run in a fixed order, each seeing the launch that the steps before it left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Literal, Protocol, runtime_checkable

from provisioner.core.progress import StepProgress


@dataclass(frozen=True)
class Launch:
    """What will be executed: the kernel's command line and its whole environment.

    Parameters
    ----------
    argv
        The command line.
    env
        Its whole environment, secrets included.
    added
        The part of `env` that earlier steps have set, kept by the pipeline. It came from the declared
        environment and not from the server, so the hooks of later steps may see all of it.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    added: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pristine:
    """A hydrated volume of the same kernelspec that nobody has used: what it has may be copied.

    A step copies only what its key is the same for, and what it knows to be free of the volume's path; what
    only hooks have made is made by the hooks again.

    Parameters
    ----------
    state
        The template's state directory.
    is_pristine
        Asked after the copying: whether still nobody has used that volume. It is not leased, for whoever
        claims it must not wait; so what was copied counts only after this has said yes.
    """

    state: Path
    is_pristine: Callable[[], bool]


@dataclass(frozen=True)
class Place:
    """Where a step works.

    Parameters
    ----------
    volume
        The volume's directory, an absolute path without symbolic links. Hooks run in it.
    state
        A directory inside the volume for the environment and the steps' own records. It exists, is private
        to the user and moves with the volume; nothing in it may be trusted to be as it was left.
    refresh
        Ask for everything anew, also what is intact: `hydrate` then takes no short cut.
    template
        A volume to copy from, where that is faster.
    kernelspec
        The kernelspec whose kernel is started.
    name
        The name of the Python environment: a volume has one for each Python (`environments.settled`).
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
        """Return the file in which a step of this name may keep what it must remember."""
        return self.state / f"{step}.json"


class Step(Protocol):
    """One way of bringing an environment about.

    For each start the runner calls `key`; where the key or `intact` says that the volume does not have it,
    `hydrate` and then `key` again (a tool may have written a lock file); and always `environment`.
    """

    @property
    def name(self) -> str:
        """A short identifier, unique among a kernelspec's steps; it names the record and the log lines."""
        ...

    def key(self, place: Place, launch: Launch) -> str:
        """Digest all inputs: equal keys promise equal environments. Reads files, starts no process."""
        ...

    def intact(self, place: Place, launch: Launch) -> bool:
        """Whether what `hydrate` made is still there and fits this place. Starts no process."""
        ...

    def hydrate(self, place: Place, launch: Launch, progress: StepProgress, cancel: Event) -> None:
        """Make the environment; whole or not at all, also when the process is killed at any instant.

        Raises
        ------
        HydrationFailed
            With the tail of the real output.
        Cancelled
            Soon (under a second) after `cancel` was set; every process started is gone by then.
        """
        ...

    def environment(self, place: Place, launch: Launch) -> Launch:
        """Return the launch with this step's environment applied. Starts no process."""
        ...


@runtime_checkable
class Traceable(Protocol):
    """A step that can say what its key was made from, so that a miss names what changed."""

    def inputs(self, place: Place, launch: Launch) -> Mapping[str, str]:
        """Return the digest of each input by the name a person knows it by (a file's path, mostly)."""
        ...


@runtime_checkable
class Lasting(Protocol):
    """A step whose work stays whole when a kernelspec with other inputs has its own done in the same volume.

    It is recorded for each kernelspec, so that kernels of several may take turns in a volume and find theirs done.
    What any other step has made counts as gone once the same step has done something else.
    """

    @property
    def lasts(self) -> Literal[True]:
        """Always true: having it is what tells."""
        ...


@runtime_checkable
class Lenient(Protocol):
    """A step whose earlier environment stays whole when a new hydration fails, and may then be used."""

    @property
    def stale(self) -> Literal["fail", "warn"]:
        """Whether such a failure fails the start, or is a warning and the earlier environment is used."""
        ...
