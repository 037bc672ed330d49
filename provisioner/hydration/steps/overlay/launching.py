"""The Python that a launch would run without an overlay: its path and its description.

Our own interpreter, which most kernels run, describes itself. Any other one is run once; the volume keeps its
description by its path, together with the files that it depends on.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from provisioner.core.errors import HydrationFailed
from provisioner.hydration.hooks.process import StepHooks
from provisioner.hydration.records import digest, digest_file, digest_text, read_record
from provisioner.hydration.step import Launch, Place
from provisioner.hydration.steps.overlay import introspection
from provisioner.hydration.steps.python.interpreter import interpreter
from provisioner.system.files import replace_file

OLDEST = (3, 8)
"""The oldest Python that can carry an overlay."""

_LIMIT = timedelta(minutes=1)  # an interpreter answers in 0.03 s, later from a cold network disk
_CURE = 'correct argv in kernel.json, or set "overlay" to false there'


@dataclass(frozen=True)
class LaunchingPython:
    """A Python over which an overlay can be laid."""

    implementation: str
    version: tuple[int, ...]
    library: str
    """The directory of this version below `lib`, `python3.13t` for example."""
    platform_library: str
    """The directory beside `lib` for compiled packages, or `lib` itself."""
    executable: str
    """The interpreter's own idea of its path; another one than the launch's if that is a wrapper."""
    base: str
    """The executable of the installation that it belongs to."""
    prefix: str
    own_sites: tuple[str, ...]
    """The directories that `site` adds for a virtual environment, whether they exist or not."""
    base_sites: tuple[str, ...]
    """Those of the installation, if it sees them; it then sees the user's packages as well."""
    path: tuple[str, ...]

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> LaunchingPython:
        """Make one from what `describe` returned; raises KeyError or TypeError for anything else.

        Raises
        ------
        HydrationFailed
            That Python cannot carry an overlay.
        """
        implementation, version = description["implementation"], tuple(description["version"])
        if implementation != "cpython" or version < OLDEST:
            raise HydrationFailed(
                f"{description['executable']} is {implementation} "
                f"{'.'.join(map(str, version))}, but an overlay environment needs CPython "
                f"{'.'.join(map(str, OLDEST))} or newer: {_CURE}"
            )
        values = {name: description[name] for name in cls.__dataclass_fields__}
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return cls(**{**values, **lists})


def find(launch: Launch) -> str:
    """Return the path of a launch's interpreter, the same one for `python` and `python3` if they are the same file.

    Raises HydrationFailed if it does not exist.
    """
    found = Path(os.path.abspath(interpreter(launch)))
    if not found.is_file():
        raise HydrationFailed(f"the kernel's interpreter {str(found)!r} does not exist: {_CURE}")
    if found.name.startswith("python"):
        for name in ("python", "python3"):
            usual = found.with_name(name)
            if usual.is_file() and usual.resolve() == found.resolve():
                return str(usual)
    return str(found)


def inputs(executable: str) -> dict[str, str]:
    """Digest the files that determine an interpreter's description, by their paths."""
    path = Path(executable)
    status = path.stat()
    identity = f"{path.resolve()} {status.st_mtime_ns} {status.st_size}"
    settings = (path.parent / "pyvenv.cfg", path.parent.parent / "pyvenv.cfg")
    return {
        executable: digest_text(identity),
        **{str(file): digest_file(file) for file in settings},
    }


def known(place: Place, executable: str) -> LaunchingPython | None:
    """Return the description of an interpreter without starting it; None if it has to be started.

    A recorded one that is damaged does not count, and neither does one of which a file has changed.
    """
    if (python := _running(executable)) is not None:
        return python
    answer: Any = read_record(place.record("python")).get(executable)
    with contextlib.suppress(KeyError, TypeError, ValueError, OSError):
        if answer["seal"] == _seal(executable, answer["description"]):
            return LaunchingPython.from_description(answer["description"])
    return None


def ask(launch: Launch, executable: str, hooks: StepHooks) -> LaunchingPython:
    """Return the description of an interpreter by running it, and record it in the volume.

    Raises HydrationFailed if it does not run or cannot carry an overlay, and Cancelled.
    """
    # Isolated, it ignores PYTHONPATH and the working directory; both affect an overlay's Python anyway.
    # It is what the kernel itself will run, so it gets the kernel's environment and not a hook's.
    ended = hooks.run(
        (executable, "-I", introspection.__file__), launch.env, timeout=_LIMIT, capture=True
    )
    try:
        # The last line: a sitecustomize may have printed others before it.
        description = json.loads(ended.captured.splitlines()[-1])
        python = LaunchingPython.from_description(description)
        seal = _seal(executable, description)
    except (IndexError, KeyError, OSError, TypeError, ValueError) as error:
        raise HydrationFailed(
            f"the kernel's interpreter {executable} does not work as Python {OLDEST[0]}.{OLDEST[1]} "
            f"or newer (it {ended.how}): {_CURE}",
            ended.tail,
        ) from error
    # Beside those of the volume's other interpreters that still exist.
    file = hooks.place.record("python")
    answers = {path: other for path, other in read_record(file).items() if os.path.exists(path)}
    answers[executable] = {"description": description, "seal": seal}
    replace_file(file, json.dumps(answers).encode(), 0o600)
    return python


def _running(executable: str) -> LaunchingPython | None:
    """Describe our own interpreter, by any of its names, unless its files have changed since this process started."""
    path, ours = Path(executable), Path(sys.executable)
    is_ours = path.parent == ours.parent and path.resolve() == ours.resolve()
    if not is_ours or sys.flags.no_site or inputs(sys.executable) != _OURS:
        return None
    return LaunchingPython.from_description(introspection.describe())


def _seal(executable: str, description: Mapping[str, Any]) -> str:
    """Digest a description and the files that it depends on."""
    files = {**inputs(executable), **inputs(description["executable"])}
    return digest({**files, "description": json.dumps(description, sort_keys=True)})


_OURS = inputs(sys.executable) if os.path.isfile(sys.executable) else None
