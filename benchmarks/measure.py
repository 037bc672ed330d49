"""Measuring side by side: rounds in which each contestant has its turn, medians, a table and a JSON file."""

from __future__ import annotations

import json
import os
import platform
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).parent / "results"
"""Where JSON files go if no other path is given; not under version control."""

LEAST_ROUNDS = 15
"""How many rounds a median takes that is held against a bound."""

Contestant = Callable[[], float]
"""Does its work once and returns the seconds that count; what it needs before and after does not."""


_RESAMPLES = 2_000


class Verdict(Enum):
    """Whether a figure keeps its bound."""

    HOLDS = "holds"
    UNCLEAR = "unclear"
    BROKEN = "BROKEN"


@dataclass(frozen=True)
class Result:
    """One figure, and what it must not exceed.

    Parameters
    ----------
    name
        What was measured.
    figure
        The figure in `unit`.
    interval
        Where the figure lies with 95 % confidence, given how the rounds differ.
    unit
        `x` for a ratio of two medians, else `ms`.
    bound
        What the figure must not exceed; None where it is only told.
    seconds
        The seconds of each round, by contestant.
    load
        How many processes wanted to run, in the mean of the minute before (getloadavg(3)).
    """

    name: str
    figure: float
    interval: tuple[float, float]
    unit: str
    bound: float | None
    seconds: Mapping[str, Sequence[float]]
    load: float = field(default_factory=lambda: os.getloadavg()[0])

    @property
    def verdict(self) -> Verdict | None:
        """Whether the bound is kept; unclear if it seems broken, and the machine's unrest may be why.

        A ratio that others disturbed shows it in its interval. A duration does not: all its rounds may have been
        slowed down, so it breaks a bound only on a machine that had a core to spare.
        """
        if self.bound is None:
            return None
        if self.figure <= self.bound:
            return Verdict.HOLDS
        disturbed = self.unit == "ms" and self.load > (os.cpu_count() or 1)
        return Verdict.UNCLEAR if disturbed or self.interval[0] <= self.bound else Verdict.BROKEN


def interleave(rounds: int, contestants: Mapping[str, Contestant]) -> dict[str, list[float]]:
    """Run the contestants in turn, in each round in another order; return the seconds of each.

    A first round is not counted: it fills caches and writes bytecode. What slows the machine down for a while
    slows all of them down.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    order = list(contestants)
    for number in range(rounds + 1):
        random.shuffle(order)
        for name in order:
            took = contestants[name]()
            if number > 0:
                seconds[name].append(took)
        _show_progress(number, rounds)
    return seconds


def ratio(
    name: str, seconds: Mapping[str, Sequence[float]], *, of: str, to: str, bound: float | None
) -> Result:
    """Return the ratio of the medians of two contestants."""

    def figure(ours: Sequence[float], theirs: Sequence[float]) -> float:
        return median(ours) / median(theirs)

    pair = {of: seconds[of], to: seconds[to]}
    interval = _interval(figure, *pair.values())
    return Result(name, figure(*pair.values()), interval, "x", bound, pair)


def duration(
    name: str, seconds: Mapping[str, Sequence[float]], *, of: str, bound: float | None
) -> Result:
    """Return the median of one contestant, in milliseconds; the bound is in milliseconds too."""

    def figure(ours: Sequence[float]) -> float:
        return median(ours) * 1000

    own = seconds[of]
    return Result(name, figure(own), _interval(figure, own), "ms", bound, {of: own})


def _interval(figure: Callable[..., float], *samples: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of a figure by the bootstrap: the figure of samples drawn anew from the samples.

    Efron, Tibshirani: An Introduction to the Bootstrap (1993), chapter 13.
    """
    draw = random.Random(0)
    drawn = sorted(
        figure(*(draw.choices(sample, k=len(sample)) for sample in samples))
        for _ in range(_RESAMPLES)
    )
    return drawn[_RESAMPLES * 25 // 1000], drawn[_RESAMPLES * 975 // 1000]


def report(title: str, results: Sequence[Result], path: Path) -> int:
    """Print the table and write the JSON file; return the exit code, 1 if a bound is broken."""
    width = max(len(result.name) for result in results)
    print(f"{title} ({_machine_line()})\n")
    print(f"{'':{width}}  {'figure':>10}  {'95 % interval':>17}  {'bound':>7}  verdict  medians")
    for result in results:
        low, high = (_number(end, result.unit) for end in result.interval)
        bound = "" if result.bound is None else _number(result.bound, result.unit)
        verdict = "" if result.verdict is None else result.verdict.value
        medians = ", ".join(f"{n} {median(s) * 1000:.1f} ms" for n, s in result.seconds.items())
        print(
            f"{result.name:{width}}  {_number(result.figure, result.unit):>7} {result.unit:2}  "
            f"{f'{low} to {high}':>17}  {bound:>7}  {verdict:7}  {medians}"
        )
    _write(title, results, path)
    verdicts = {result.verdict for result in results}
    if Verdict.UNCLEAR in verdicts:
        print(
            "Unclear: others kept this machine busy; run this when it is idle, or with more --rounds."
        )
    return 1 if Verdict.BROKEN in verdicts else 0


def _write(title: str, results: Sequence[Result], path: Path) -> None:
    content = {
        "title": title,
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "results": [
            {**asdict(result), "verdict": result.verdict and result.verdict.value}
            for result in results
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    print(f"\nWritten to {os.path.relpath(path)}")


def machine() -> dict[str, Any]:
    """Describe what was measured on."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": list(os.getloadavg()),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in ("jupyter_client", "ipykernel", "pyzmq")},
    }


def require_warm_bytecode() -> None:
    """End the program if Python may not keep bytecode: all would be measured that is compiled at each start."""
    if sys.dont_write_bytecode:
        sys.exit(
            "Without bytecode files a start takes four times as long; unset PYTHONDONTWRITEBYTECODE and run this again."
        )


def require_enough(rounds: int) -> int:
    """Return `rounds`, or end the program if their median would say little."""
    if rounds < LEAST_ROUNDS:
        sys.exit(
            f"A median of {rounds} rounds says too little; use --rounds {LEAST_ROUNDS} or more."
        )
    return rounds


def _show_progress(done: int, rounds: int) -> None:
    if sys.stderr.isatty():
        end = "\r\x1b[K" if done == rounds else ""
        print(f"\rround {done} of {rounds}{end}", end="", file=sys.stderr, flush=True)


def _number(figure: float, unit: str) -> str:
    return f"{figure:.3f}" if unit == "x" else f"{figure:.2f}"


def _machine_line() -> str:
    return (
        f"{_processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"{platform.system()}, Python {platform.python_version()}"
    )


def _processor() -> str:
    with_names = Path("/proc/cpuinfo")
    if with_names.exists():
        for line in with_names.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
