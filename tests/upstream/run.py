"""Run the test suites of jupyter_client and nbclient with kernels that have volumes, and without.

    python -m tests.upstream.run [--suite jupyter_client|nbclient|all] [--only-volume] [--jobs N] [--output DIR]

The suites come from the source distributions of the versions that are installed here, fetched by pip. Each runs
twice: with `local-provisioner`, and with volumes for every kernel (`JUPYTER_DEFAULT_PROVISIONER_NAME`, and the
notebook's directory as the working directory, as these suites expect). A test that passes only without volumes is
a difference, and makes this exit with 1. A test that fails is run once more on its own before it is reported.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from provisioner.system.lease import is_held
from tests.support.signals import take_back_signals
from tests.upstream.outcome import Outcome, Verdict, read_outcomes, summary
from tests.upstream.suite import RUNNERS, SUITES, Suite, fetch, make_environment, scripts

_MOST_SECONDS = 900
"""How long one run of a suite may take; the longest takes five minutes with a single job."""

_CONFIG = {"VolumeProvisioner": {"workdir": "notebook"}, "VolumePool": {"max_volumes": 10_000}}


class Mode(Enum):
    """Which provisioner is the default, by its name."""

    LOCAL = "local-provisioner"
    VOLUME = "volume-provisioner"


@dataclass(frozen=True)
class Workplace:
    """The directory and the interpreter with which a suite is run.

    Parameters
    ----------
    suite, source
        The suite, and its unpacked source distribution.
    python
        The interpreter of an environment that has what the suite needs.
    directory
        For reports, configuration and volumes.
    """

    suite: Suite
    source: Path
    python: Path
    directory: Path

    @property
    def root(self) -> Path:
        """The root of the volumes that the suite's kernels get."""
        return self.directory / f"{self.suite.distribution}-volumes"

    def run(self, mode: Mode, name: str, *arguments: str) -> dict[str, Outcome]:
        """Run pytest with further arguments; return the outcome of each test."""
        stem = self.directory / f"{self.suite.distribution}-{mode.value}{name}"
        report = stem.with_suffix(".xml")
        command = (
            *(str(self.python), "-m", "pytest", "-q", "--color=no", "-p", "no:cacheprovider"),
            *("-o", "junit_family=xunit1", f"--junitxml={report}"),
            *self.suite.options,
            *arguments,
        )
        log = stem.with_suffix(".log")
        status = self._run_to_end(command, self._environment(mode), log)
        if status not in {0, 1}:  # pytest's own codes for "all passed" and "some failed"
            end = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            how = f"exit code {status}" if status is not None else f"not in {_MOST_SECONDS} s"
            sys.exit(f"{end}\npytest could not run the tests of {self.suite.distribution} ({how}).")
        return read_outcomes(report)

    def _run_to_end(self, command: Sequence[str], env: dict[str, str], log: Path) -> int | None:
        """Return the exit code, None after a timeout; at a timeout and at Ctrl-C all processes are killed."""
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=self.source,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            return process.wait(_MOST_SECONDS)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return None

    def _environment(self, mode: Mode) -> dict[str, str]:
        """Return this environment without the variables that change how Python and Jupyter behave."""
        foreign = ("JUPYTER", "JPY", "IPYTHON", "PYTEST", "PYTHON", "COVERAGE")
        env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        path = [str(self.python.parent), scripts(), env.get("PATH", os.defpath)]
        env.update(PATH=os.pathsep.join(path), PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
        if mode is Mode.VOLUME:
            # The only variable for Jupyter's directories that these suites do not set themselves.
            config = self.directory / "config"
            config.mkdir(exist_ok=True)
            (config / "jupyter_volumes_config.json").write_text(json.dumps(_CONFIG))
            env.update(
                JUPYTER_CONFIG_PATH=str(config),
                JUPYTER_DEFAULT_PROVISIONER_NAME=mode.value,
                JUPYTER_VOLUMES_ROOT=str(self.root),
            )
        return env


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suites that the command line names; return the exit code."""
    options = _parser().parse_args(arguments)
    take_back_signals()
    chosen = [suite for suite in SUITES if options.suite in {suite.distribution, "all"}]
    modes = [Mode.VOLUME] if options.only_volume else [Mode.LOCAL, Mode.VOLUME]
    differences = 0
    with tempfile.TemporaryDirectory(prefix="upstream-") as scratch:
        directory = options.output.absolute() if options.output else Path(scratch, "reports")
        directory.mkdir(parents=True, exist_ok=True)
        requirements = [*(suite.requirement for suite in chosen), *RUNNERS]
        python = make_environment(Path(scratch, "environment"), requirements)
        for suite in chosen:
            source = fetch(suite, Path(scratch, suite.distribution))
            print(f"{suite.distribution} {suite.version}", flush=True)
            workplace = Workplace(suite, source, python, directory)
            outcomes = {mode: run_patiently(workplace, mode, options.jobs) for mode in modes}
            differences += tell_differences(outcomes)
            differences += tell_leases(workplace)
    return 1 if differences else 0


def run_patiently(workplace: Workplace, mode: Mode, jobs: int) -> dict[str, Outcome]:
    """Run a suite, run each failed test once more on its own, and print the result."""
    begin = time.monotonic()
    parallel = ("-p", "xdist", "-n", str(jobs)) if jobs > 1 else ()
    outcomes = workplace.run(mode, "", *parallel)
    failed = [o for o in outcomes.values() if _is_failure(o)]
    if failed:
        outcomes.update(workplace.run(mode, "-again", *(outcome.test for outcome in failed)))
    took = time.monotonic() - begin
    print(f"  {mode.value:20} {summary(outcomes.values())} in {took:.0f} s", flush=True)
    for outcome in failed:
        if outcomes[outcome.test].verdict is Verdict.PASSED:
            print(f"    passed only when run again, alone: {outcome.test}")
            print(_indented(outcome.reason))
    return outcomes


def tell_differences(outcomes: dict[Mode, dict[str, Outcome]]) -> int:
    """Print each test that passes only without volumes; return how many there are."""
    with_volumes = outcomes[Mode.VOLUME]
    # Without a run to compare with, every test is expected to pass.
    expected = {
        test: outcome
        for test, outcome in outcomes.get(Mode.LOCAL, with_volumes).items()
        if Mode.LOCAL not in outcomes or outcome.verdict is Verdict.PASSED
    }
    lost = 0
    for test in expected:
        outcome = with_volumes.get(test, Outcome(test, Verdict.FAILED, "It was not run."))
        if outcome.is_about_the_default:
            print(f"    asserts that the default provisioner is the local one: {test}")
        elif _is_failure(outcome) or (
            Mode.LOCAL in outcomes and outcome.verdict is Verdict.SKIPPED
        ):
            lost += 1
            print(f"    NOT with volumes: {test}")
            print(_indented(outcome.reason or "skipped"))
    return lost


def tell_leases(workplace: Workplace) -> int:
    """Print how many volumes there were; return how many of them are not free a while after the end.

    No volume at all would mean that the suite ran without the provisioner that it was meant to try.
    """
    leases = list((workplace.root / "leases").glob("*"))
    deadline = time.monotonic() + 10.0
    while held := [path for path in leases if is_held(path)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    print(f"    {len(leases)} volumes, {len(held)} of them still leased", flush=True)
    return len(held) if leases else 1


def _is_failure(outcome: Outcome) -> bool:
    return outcome.verdict is Verdict.FAILED and not outcome.is_about_the_default


def _indented(text: str) -> str:
    return "\n".join(f"        {line}" for line in text.splitlines())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Run the test suites of jupyter_client and nbclient with volumes and without."
    )
    names = [suite.distribution for suite in SUITES]
    parser.add_argument("--suite", choices=[*names, "all"], default="all")
    parser.add_argument(
        "--only-volume", action="store_true", help="do not run without volumes for comparison"
    )
    parser.add_argument(
        "--jobs", type=int, default=4, help="tests at the same time; most of them mostly wait"
    )
    parser.add_argument(
        "--output", type=Path, help="keep logs, reports and volumes in this directory"
    )
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
