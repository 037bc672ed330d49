"""CI runs a failed test once more; a test that passes only then fails CI, unless it is known for it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci/run-failed-again"
TESTS = """
from pathlib import Path

def test_flaky():
    seen = Path("seen")
    if not seen.exists():
        seen.touch()
        raise AssertionError("the first time")

def test_sound():
    pass
"""
BROKEN = "\ndef test_broken():\n    raise AssertionError('always')\n"
KNOWN = "# a comment\n\ntest_it.py::test_flaky # its server is slow, see issue 7\n"


class Project:
    """A project with tests of which one passes only the second time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / ".ci").mkdir()
        shutil.copy(SCRIPT, directory / ".ci")
        (directory / ".venv").symlink_to(sys.prefix)
        (directory / "pytest.ini").touch()
        self.write(TESTS)
        self.know("")

    def write(self, tests: str) -> None:
        (self.directory / "test_it.py").write_text(tests)

    def know(self, lines: str) -> None:
        (self.directory / ".ci/known-flaky").write_text(lines)

    def run(self) -> tuple[int, str]:
        """Run the tests, then those that failed again; return the second exit code and output."""
        self._call(sys.executable, "-m", "pytest", "-q")
        return self._call(sys.executable, ".ci/run-failed-again")

    def _call(self, *command: str) -> tuple[int, str]:
        done = subprocess.run(
            command, cwd=self.directory, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with one flaky test."""
    return Project(tmp_path)


def test_a_test_that_passes_only_when_run_again_is_a_failure(project: Project) -> None:
    code, out = project.run()
    assert code == 1
    assert "passed only when run again, which is a failure: test_it.py::test_flaky" in out


def test_unless_it_is_listed_with_a_reason(project: Project) -> None:
    project.know(KNOWN)
    code, out = project.run()
    assert code == 0, out
    assert "known to (its server is slow, see issue 7): test_it.py::test_flaky" in out


def test_a_listed_test_without_a_reason_is_refused(project: Project) -> None:
    project.know("test_it.py::test_flaky\n")
    code, out = project.run()
    assert code == 1
    assert "a line without ' # ' and a reason" in out


def test_what_fails_twice_fails_although_something_else_is_listed(project: Project) -> None:
    project.write(TESTS + BROKEN)
    project.know(KNOWN)
    code, out = project.run()
    assert code == 1
    assert "failed twice: test_it.py::test_broken" in out


def test_a_run_that_failed_without_naming_a_test_stays_a_failure(project: Project) -> None:
    project.write("import a_module_that_does_not_exist\n")
    assert project.run()[0] == 1
    project.write("def test_sound():\n    pass\n")
    assert project.run()[0] == 1
