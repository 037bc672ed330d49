"""Starts a hydration in a separate process, to run it beside others or to kill it at a certain point.

`python -m tests.support.starter REQUEST.json` prints the report as JSON. The points are the moments before
the process changes the file system below the volume, or starts a program: `kill_at` counts them.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from provisioner.hydration.plan import plan
from provisioner.hydration.step import Launch, Place
from provisioner.settings.options import KernelOptions
from tests.support.starts import run

_CHANGES = {
    "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod",
    "subprocess.Popen",
}  # fmt: skip


def watch_points(volume: Path, at: Callable[[int], None]) -> None:
    """Call `at` with a running number before each change."""
    points = 0

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal points
        writes = event == "open" and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
        here = any(str(volume) in str(argument) for argument in arguments)
        if (event in _CHANGES and (here or event == "subprocess.Popen")) or (writes and here):
            points += 1
            at(points)

    sys.addaudithook(count)


def main() -> None:
    """Hydrate as the request describes."""
    request = json.loads(Path(sys.argv[1]).read_text())
    place = Place(Path(request["volume"]), Path(request["volume"]) / ".state")
    launch = Launch(tuple(request["argv"]), request["env"])
    steps = plan(
        KernelOptions().having(
            nix_profile=request["nix_profile"],
            requirements=request["requirements"],
            bootstrap_command=request["bootstrap_command"],
        ),
        Path(request["uv_cache"]),
    )
    last = 0

    def at(point: int) -> None:
        nonlocal last
        last = point
        if point == request.get("kill_at"):
            os.kill(os.getpid(), signal.SIGKILL)

    watch_points(place.volume, at)
    hydrated = run(steps, place, launch)
    print(
        json.dumps(
            {
                "hits": [report.hit for report in hydrated.report],
                "argv": hydrated.launch.argv,
                "env": dict(hydrated.launch.env),
                "points": last,
            }
        )
    )


if __name__ == "__main__":
    main()
