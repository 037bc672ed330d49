"""Programs and rights that a test needs and this machine may not have."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

_ALSO = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def require(program: str, hint: str) -> str:
    """Return the path of a program. Without it the test fails in CI and is skipped elsewhere.

    Parameters
    ----------
    program
        The program's name.
    hint
        How to install it.
    """
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_ALSO))
    found = shutil.which(program, path=path)
    if found is None:
        do_without(f"this test runs {program}: {hint}")
    return found


def do_without(reason: str) -> NoReturn:
    """End a test that this machine cannot run: it fails in CI and is skipped elsewhere."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
