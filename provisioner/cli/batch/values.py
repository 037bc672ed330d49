"""The values of a batch run: its notebooks, its options and its outcomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path

from nbformat import NotebookNode
from traitlets.config import Config


@dataclass(frozen=True)
class Run:
    """The planned execution of one notebook.

    Parameters
    ----------
    label
        Its name in messages: the path that the user gave.
    notebook
        The canonical path of the notebook.
    output
        Where the executed notebook is written.
    kernel
        Returns the kernelspec for the notebook's content; called in a thread, raises `VolumeError`.
    """

    label: str
    notebook: Path
    output: Path
    kernel: Callable[[NotebookNode], str]


@dataclass(frozen=True)
class BatchOptions:
    """What applies to all notebooks of a batch.

    Parameters
    ----------
    parallel
        How many notebooks are executed at the same time.
    session
        The session of all of them; None: each has that of its own path.
    cell_timeout, startup_timeout
        How long a cell may run, and a kernel may take to answer; None: without limit.
    allow_errors
        Continue after a cell that fails.
    config
        The settings for kernels and their volumes.
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
        The message of the error.
    cell
        The cell's number among all cells, from 1; None if the failure was in none.
    """

    error: str
    message: str
    cell: int | None = None

    def __str__(self) -> str:
        """Return the failure as one line; for a kernel that died, its last output follows."""
        where = "" if self.cell is None else f"cell {self.cell}"
        return ": ".join(filter(None, (where, self.error, self.message)))


@dataclass(frozen=True)
class Outcome:
    """The outcome of one run.

    Parameters
    ----------
    run
        The run.
    status
        How it ended.
    cells_done, cells
        How many code cells were executed, and how many the notebook has.
    took
        How long the run took, start of the kernel included.
    session
        The session whose volume was used; None if the kernel got none.
    output
        The executed notebook; None if no kernel started.
    failure
        Why the run failed.
    """

    run: Run
    status: Status
    cells_done: int = 0
    cells: int = 0
    took: timedelta = timedelta()
    session: str | None = None
    output: Path | None = None
    failure: Failure | None = None
