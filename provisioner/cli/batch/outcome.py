"""What a batch run is given and what comes of it: jobs, conditions, outcomes. Plain values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Protocol

from nbformat import NotebookNode
from traitlets.config import Config


@dataclass(frozen=True)
class Job:
    """One notebook to execute.

    Parameters
    ----------
    label
        What people call it: the path that they gave.
    notebook
        Its canonical path.
    output
        Where the executed notebook is written.
    kernel
        Chooses the kernelspec for the notebook's content; called in a thread, raises `VolumeError`.
    """

    label: str
    notebook: Path
    output: Path
    kernel: Callable[[NotebookNode], str]


@dataclass(frozen=True)
class Conditions:
    """What holds for all notebooks of a run.

    Parameters
    ----------
    parallel
        How many are executed at the same time.
    session
        One session for all of them; None: each in that of its own path.
    cell_timeout, startup_timeout
        How long a cell may run, and a kernel may take to answer; None: for ever.
    allow_errors
        Go on after a cell that fails.
    config
        Settings for kernels and their volumes.
    """

    parallel: int = 1
    session: str | None = None
    cell_timeout: timedelta | None = None
    startup_timeout: timedelta | None = timedelta(seconds=60)
    allow_errors: bool = False
    config: Config | None = None


class Status(Enum):
    """How the execution of a notebook ended."""

    PASSED = "passed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Failure:
    """Why a notebook failed.

    Parameters
    ----------
    error
        The name of the error.
    message
        What it says.
    cell
        The cell's number among all cells, from 1; None where no cell is to blame.
    """

    error: str
    message: str
    cell: int | None = None

    def __str__(self) -> str:
        """Return it as one line (and, for a kernel that died, what it printed)."""
        where = "" if self.cell is None else f"cell {self.cell}"
        return ": ".join(filter(None, (where, self.error, self.message)))


@dataclass(frozen=True)
class Outcome:
    """What became of one notebook.

    Parameters
    ----------
    job
        The notebook.
    status
        How it ended.
    cells_done, cells
        How many code cells were executed, and how many there are.
    took
        How long, kernel start included.
    session
        Whose volume it had; None if it had none.
    output
        The notebook that was written; None if no kernel came up.
    failure
        Why it failed.
    """

    job: Job
    status: Status
    cells_done: int = 0
    cells: int = 0
    took: timedelta = timedelta()
    session: str | None = None
    output: Path | None = None
    failure: Failure | None = None


class Listener(Protocol):
    """Told what goes on, on the event loop; it returns at once."""

    def started(self, job: Job, cells: int) -> None:
        """A notebook's kernel is being started."""
        ...

    def cell_done(self, job: Job, done: int, cells: int) -> None:
        """One more code cell was executed."""
        ...

    def ended(self, outcome: Outcome) -> None:
        """A notebook is done with, however it ended; it may not even have been started."""
        ...
