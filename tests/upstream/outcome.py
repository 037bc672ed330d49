"""The outcome of each test of a run, read from pytest's JUnit XML."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

# The file was written by pytest on this machine a moment ago.
from xml.etree import ElementTree


class Verdict(IntEnum):
    """How a test ended; where it ended twice (a teardown that fails), the greatest value counts."""

    PASSED = 0
    SKIPPED = 1
    FAILED = 2


_ABOUT_THE_DEFAULT = re.compile(
    r"^>\s+assert isinstance\(\w+\.provisioner, LocalProvisioner\)$", re.MULTILINE
)


@dataclass(frozen=True)
class Outcome:
    """How one test ended.

    Parameters
    ----------
    test
        Its node id, with which pytest runs it again.
    verdict
        How it ended.
    detail
        The traceback of a failure.
    """

    test: str
    verdict: Verdict
    detail: str = ""

    @property
    def is_about_the_default(self) -> bool:
        """Whether the test failed in asserting that the default provisioner is the local one.

        Such a test cannot pass when JUPYTER_DEFAULT_PROVISIONER_NAME names any other provisioner. Only
        the failing line counts, so another failure of the same test is a failure.
        """
        return self.verdict is Verdict.FAILED and bool(_ABOUT_THE_DEFAULT.search(self.detail))

    @property
    def reason(self) -> str:
        """The error lines of the traceback, at most five."""
        said = [line for line in self.detail.splitlines() if line.startswith("E ")]
        return "\n".join(said[:5]) or "\n".join(self.detail.splitlines()[-5:])


def read_outcomes(report: Path) -> dict[str, Outcome]:
    """Return the outcomes in a report of the family `xunit1` (the only one that names files), by node id."""
    outcomes: dict[str, Outcome] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        outcome = _outcome(case)
        before = outcomes.get(outcome.test)
        if before is None or before.verdict < outcome.verdict:
            outcomes[outcome.test] = outcome
    return outcomes


def summary(outcomes: Iterable[Outcome]) -> str:
    """Return the number of tests for each verdict, in pytest's words."""
    counts = Counter(outcome.verdict for outcome in outcomes)
    return ", ".join(
        f"{counts[verdict]} {verdict.name.lower()}"
        for verdict in (Verdict.FAILED, Verdict.PASSED, Verdict.SKIPPED)
        if counts[verdict]
    )


def _outcome(case: ElementTree.Element) -> Outcome:
    for child in case:
        if child.tag in {"failure", "error"}:
            detail = f"{child.text or ''}\n{child.get('message', '')}".strip()
            return Outcome(_node_id(case), Verdict.FAILED, detail)
        if child.tag == "skipped":
            return Outcome(_node_id(case), Verdict.SKIPPED)
    return Outcome(_node_id(case), Verdict.PASSED)


def _node_id(case: ElementTree.Element) -> str:
    """Return the node id of a test; the report repeats the module's name in that of the class."""
    file, name = case.get("file", ""), case.get("name", "")
    module = file.removesuffix(".py").replace("/", ".")
    classes = case.get("classname", "").removeprefix(module).strip(".").replace(".", "::")
    return "::".join(part for part in (file, classes, name) if part)
