"""`jupyter volumes run`: executes notebooks, each in the volume that it has in JupyterLab."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from math import ceil

from traitlets.config import Config

from provisioner.cli.arguments import add_switch, duration, whole_number
from provisioner.cli.output.progress import count_bars
from provisioner.cli.output.terminal import print_json
from provisioner.core.session import checked
from provisioner.settings.notebook import canonical
from provisioner.settings.pool import load_settings

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
    add_switch(where, "--inplace", "write each executed notebook over the original")
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
    add_switch(parser, "--allow-errors", "continue after a cell that fails")
    add_switch(parser, "--json", "print the outcomes as JSON, and the progress on stderr")
    parser.set_defaults(usage_error=parser.error)


def run(args: argparse.Namespace) -> int:
    """Execute the notebooks; 1 if any failed, 128 plus the signal's number if one ended the run."""
    if args.session and args.session_per == "notebook":
        args.usage_error("--session and --session-per notebook contradict each other")
    load_settings(args.config)  # so that bad settings are refused once, and not for each notebook
    os.getcwd()  # likewise: no kernel starts from a directory that was deleted
    session = run_session(args.session, args.session_per, args.notebooks)
    return asyncio.run(_run(args, session))


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


async def _run(args: argparse.Namespace, session: str | None) -> int:
    # Imported here: importing nbclient would take the help a second.
    from provisioner.cli.batch.execution import Stop, execute
    from provisioner.cli.batch.plan import plan_runs
    from provisioner.cli.batch.reporting import Reporter, Status, described, summarize

    runs = plan_runs(
        args.notebooks, kernel=args.kernel, output_directory=args.output_dir, inplace=args.inplace
    )
    stop = Stop()
    stream = sys.stderr if args.json else sys.stdout
    with count_bars(stream) as bars:
        outcomes = await execute(
            runs,
            Reporter(stream, bars, len(runs)),
            stop,
            parallel=args.jobs,
            session=session,
            timeout=_seconds(args.timeout),
            startup_timeout=_seconds(args.startup_timeout),
            allow_errors=args.allow_errors,
            config=args.config or Config(),
        )
    summarize(outcomes, stream)
    if args.json:
        print_json([described(outcome) for outcome in outcomes])
    if stop.first.done():
        return 128 + stop.first.result()
    return 0 if all(outcome.status is Status.PASSED for outcome in outcomes) else 1


def _seconds(duration: timedelta | None) -> int | None:
    """Return whole seconds, as nbclient requires."""
    return None if duration is None else ceil(duration.total_seconds())
