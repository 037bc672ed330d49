"""`jupyter volumes run`: executes notebooks, each in the volume that it has in JupyterLab."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from provisioner.cli.output.quantity import duration, whole_number
from provisioner.cli.output.terminal import print_json
from provisioner.cli.settings import settings_of
from provisioner.core.session import checked
from provisioner.settings.notebook import canonical

if TYPE_CHECKING:
    from provisioner.cli.batch.execution import Stop
    from provisioner.cli.batch.values import BatchOptions, Run

# `run` imports the batch room inside its functions: importing nbclient would take the help a second.

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_DESCRIPTION = """\
Execute notebooks through nbclient, each in the volume of its own path: the batch run and the notebook opened in
JupyterLab share their files. JUPYTER_VOLUME_SESSION in the environment, and `metadata.volume.session` in a notebook,
name another session, as everywhere.

The executed notebook is written to NAME.executed.ipynb beside NAME.ipynb, even if a cell fails; a kernel that did not
start leaves no output. Ctrl-C interrupts the running cells, writes the notebooks as far as they were executed and
ends the kernels; a second Ctrl-C does not wait for the cells.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `run`."""
    parser.description = _DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("notebooks", metavar="NOTEBOOK", nargs="+", help="a notebook to execute")
    parser.add_argument(
        "-j",
        "--jobs",
        type=whole_number(1),
        default=1,
        metavar="N",
        help="execute N at a time (default: 1)",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--output-dir",
        metavar="DIR",
        help="write the executed notebooks into this directory, under their own names",
    )
    where.add_argument(
        "--inplace", action="store_true", help="write each executed notebook over the original"
    )
    parser.add_argument(
        "--kernel",
        metavar="NAME",
        help="the kernelspec for all notebooks (default: each notebook's own if it gives volumes, else python3-volume)",
    )
    parser.add_argument(
        "--session-per",
        choices=("notebook", "run"),
        help="one volume for each notebook (the default), or one for the run: that of --session, "
        "else that of the directory that contains all the notebooks",
    )
    parser.add_argument(
        "--session", metavar="NAME", help="execute all notebooks in the volume of this session"
    )
    parser.add_argument(
        "--timeout",
        type=duration,
        metavar="TIME",
        help='how long a cell may run, such as 90, "30m" or "never" (the default)',
    )
    parser.add_argument(
        "--startup-timeout",
        type=duration,
        default=timedelta(minutes=1),
        metavar="TIME",
        help="how long a started kernel may take to answer, without hydration (default: 1m)",
    )
    parser.add_argument(
        "--allow-errors", action="store_true", help="continue after a cell that fails"
    )
    parser.add_argument(
        "--json", action="store_true", help="print the outcomes as JSON, and the progress on stderr"
    )
    parser.set_defaults(usage_error=parser.error)


def run(args: argparse.Namespace) -> int:
    """Execute the notebooks; 1 if any failed, 128 plus the signal's number if one ended the run."""
    from provisioner.cli.batch.plan import plan_runs
    from provisioner.cli.batch.values import BatchOptions

    if args.session and args.session_per == "notebook":
        args.usage_error("--session and --session-per notebook contradict each other")
    settings_of(args)  # so that bad settings are refused once, and not for each notebook
    os.getcwd()  # likewise: no kernel starts from a directory that was deleted
    runs = plan_runs(
        args.notebooks, kernel=args.kernel, output_directory=args.output_dir, inplace=args.inplace
    )
    options = BatchOptions(
        parallel=args.jobs,
        session=run_session(args.session, args.session_per, args.notebooks),
        cell_timeout=args.timeout,
        startup_timeout=args.startup_timeout,
        allow_errors=args.allow_errors,
        config=args.config,
    )
    return asyncio.run(_run(runs, options, as_json=args.json))


def run_session(name: str | None, per: str | None, notebooks: Sequence[str]) -> str | None:
    """Return the session that all notebooks share; None if each has its own.

    The session of a run is named after the directory that contains all its notebooks, so the next run finds its files.
    """
    if name is not None:
        return checked(name, "--session")
    if per != "run":
        return None
    directories = [os.path.dirname(canonical(notebook)) for notebook in notebooks]
    return checked(f"run:{os.path.commonpath(directories)}", "the notebooks' directory")


async def _run(runs: Sequence[Run], options: BatchOptions, *, as_json: bool) -> int:
    from provisioner.cli.batch.execution import Stop, execute
    from provisioner.cli.batch.reporting import described, reporter_on, summarize
    from provisioner.cli.batch.values import Status

    stop = Stop()
    stream = sys.stderr if as_json else sys.stdout
    with _stopped_by_signals(stop) as received, reporter_on(stream, len(runs)) as reporter:
        outcomes = await execute(runs, options, reporter, stop)
    summarize(outcomes, stream)
    if as_json:
        print_json([described(outcome) for outcome in outcomes])
    if received:
        return 128 + received[0]
    return 0 if all(outcome.status is Status.PASSED for outcome in outcomes) else 1


@contextmanager
def _stopped_by_signals(stop: Stop) -> Iterator[Sequence[int]]:
    """Stop the run at a signal that requests the end of the process; yields the received signals."""
    received: list[int] = []

    def receive(number: int) -> None:
        received.append(number)
        stop.request()

    loop = asyncio.get_running_loop()
    # Signals that `nohup` or the `&` of a shell made us ignore stay ignored.
    handled = [number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    for number in handled:
        loop.add_signal_handler(number, receive, number)
    try:
        yield received
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
