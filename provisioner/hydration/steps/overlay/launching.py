"""The Python that a launch would run without an overlay: which it is, and what it looks like.

Our own interpreter, which most kernels run, describes itself. Any other is asked once, in a process; its
answer is kept in the volume, by its path, together with what it depends on.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from provisioner.core.errors import HydrationFailed
from provisioner.core.progress import StepProgress
from provisioner.hydration.hooks.process import run_hook
from provisioner.hydration.interpreter import interpreter
from provisioner.hydration.pieces import writing
from provisioner.hydration.records import digest_file, digest_text, read_record
from provisioner.hydration.step import Launch, Place
from provisioner.hydration.steps.overlay import introspection
from provisioner.system.files import replace_file

if TYPE_CHECKING:
    from provisioner.hydration.steps.overlay.introspection import Description

OLDEST = (3, 8)
"""The oldest Python that can carry an overlay."""

_LIMIT = timedelta(
    seconds=60
)  # an interpreter answers in 0.03 s; on a cold network disk it takes long
_CURE = 'correct argv in kernel.json, or set "overlay" to false there'


@dataclass(frozen=True)
class LaunchingPython:
    """A Python for an overlay to lie over.

    Parameters
    ----------
    version
        Major, minor and micro.
    library
        The directory of this version below `lib`, `python3.13t` for example.
    platform_library
        The directory beside `lib` for compiled packages, or `lib` itself.
    executable
        The interpreter's own idea of its path; another than the launch's if that is a wrapper.
    base
        The executable of the installation that it stands on.
    prefix
        Its `sys.prefix`.
    own_sites
        The directories for packages of a virtual environment, whether they exist or not.
    base_sites
        Those of the installation, if it sees them; it then sees the user's as well.
    path
        Its `sys.path`.
    """

    version: tuple[int, ...]
    library: str
    platform_library: str
    executable: str
    base: str
    prefix: str
    own_sites: tuple[str, ...]
    base_sites: tuple[str, ...]
    path: tuple[str, ...]

    @classmethod
    def from_description(cls, description: Description) -> LaunchingPython:
        """Make one from what `describe` returned.

        Raises
        ------
        HydrationFailed
            That Python cannot carry an overlay.
        """
        version = tuple(description["version"])
        if description["implementation"] != "cpython" or version < OLDEST:
            raise HydrationFailed(
                f"{description['executable']} is {description['implementation']} "
                f"{'.'.join(map(str, version))}, but an overlay environment needs CPython "
                f"{'.'.join(map(str, OLDEST))} or newer: {_CURE}"
            )
        return cls(
            version=version,
            library=description["library"],
            platform_library=description["platform_library"],
            executable=description["executable"],
            base=description["base"],
            prefix=description["prefix"],
            own_sites=tuple(description["own_sites"]),
            base_sites=tuple(description["base_sites"]),
            path=tuple(description["path"]),
        )


def find(launch: Launch) -> str:
    """Return the path of a launch's interpreter, by the same name whichever of its names the launch has.

    Raises
    ------
    HydrationFailed
        There is none.
    """
    found = Path(os.path.abspath(interpreter(launch)))
    if not found.is_file():
        raise HydrationFailed(f"the kernel's interpreter {str(found)!r} does not exist: {_CURE}")
    if found.name.startswith("python"):
        # A server started with `python` and a command started with `python3` mean the same one.
        for name in ("python", "python3"):
            usual = found.with_name(name)
            if usual.is_file() and usual.resolve() == found.resolve():
                return str(usual)
    return str(found)


def inputs(executable: str) -> dict[str, str]:
    """Digest all that decides what an interpreter looks like, by the path it was read from."""
    path = Path(executable)
    status = path.stat()
    identity = f"{path.resolve()} {status.st_mtime_ns} {status.st_size}"
    settings = (path.parent / "pyvenv.cfg", path.parent.parent / "pyvenv.cfg")
    return {
        executable: digest_text(identity),
        **{str(file): digest_file(file) for file in settings},
    }


def known(place: Place, executable: str) -> LaunchingPython | None:
    """Describe an interpreter without starting it, if that can be done."""
    return _running(executable) or _recorded(place, executable)


def ask(
    place: Place, launch: Launch, executable: str, progress: StepProgress, cancel: Event
) -> LaunchingPython:
    """Describe an interpreter by running it, and keep its answer in the volume.

    Raises
    ------
    HydrationFailed
        It does not run, or cannot carry an overlay.
    Cancelled
        `cancel` was set.
    """
    asked = inputs(executable)
    # Isolated, it sees neither PYTHONPATH nor the working directory; both reach an overlay by themselves.
    ended = run_hook(
        (executable, "-I", introspection.__file__),
        cwd=place.volume,
        env=launch.env,  # no hook: it is what the kernel itself is about to run
        log=place.log,
        tell=lambda line: progress("overlay", line),
        cancel=cancel,
        timeout=_LIMIT,
        capture=True,
    )
    try:
        # Its last line: a sitecustomize may have printed others.
        description = json.loads(ended.captured.splitlines()[-1])
        python = LaunchingPython.from_description(description)
        dependencies = {**asked, **inputs(python.executable)}
    except (IndexError, KeyError, OSError, TypeError, ValueError) as error:
        raise HydrationFailed(
            f"the kernel's interpreter {executable} does not work as Python {OLDEST[0]}.{OLDEST[1]} "
            f"or newer (it {ended.how}): {_CURE}",
            ended.tail,
        ) from error
    answer = {
        "inputs": dependencies,
        "description": description,
        "seal": _seal(dependencies, description),
    }
    with writing:
        # Kernels of several Pythons may share the volume; of those that are gone nothing need be known.
        others = read_record(_record(place)).items()
        answers = {path: other for path, other in others if os.path.exists(path)}
        answers[executable] = answer
        replace_file(_record(place), json.dumps(answers).encode(), 0o600)
    return python


def _running(executable: str) -> LaunchingPython | None:
    """Describe our own interpreter, unless its files are no longer those that we were started from."""
    if not _is_ours(executable) or sys.flags.no_site or _inputs_or_none(sys.executable) != _OURS:
        return None
    return LaunchingPython.from_description(introspection.describe())


def _is_ours(executable: str) -> bool:
    """Whether it is ours under this name or another one in its directory (`python`, `python3`)."""
    ours = sys.executable
    return executable == ours or (
        bool(ours)
        and os.path.dirname(executable) == os.path.dirname(ours)
        and Path(executable).resolve() == Path(ours).resolve()
    )


def _recorded(place: Place, executable: str) -> LaunchingPython | None:
    answer = read_record(_record(place)).get(executable)
    if not isinstance(answer, dict):
        return None
    dependencies, description = answer.get("inputs"), answer.get("description")
    if not isinstance(dependencies, dict) or answer.get("seal") != _seal(dependencies, description):
        return None
    python = LaunchingPython.from_description(description)  # type: ignore[arg-type]  # sealed by us
    now = {**(_inputs_or_none(executable) or {}), **(_inputs_or_none(python.executable) or {})}
    return python if dependencies == now else None


def _record(place: Place) -> Path:
    return place.state / "python.json"


def _seal(dependencies: Mapping[str, str], description: object) -> str:
    return digest_text(json.dumps([dependencies, description], sort_keys=True))


def _inputs_or_none(executable: str) -> dict[str, str] | None:
    try:
        return inputs(executable)
    except OSError:
        return None


_OURS = _inputs_or_none(sys.executable)
