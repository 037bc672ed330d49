"""What hydration costs a start, side by side with calling Nix and uv at each launch.

python benchmarks/hydration.py [--rounds 15] [--json PATH]

Needs Nix (the package `nix-bin`), uv, and a package index for the first round.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Event

import zmq
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.connect import write_connection_file
from measure import (
    LEAST_ROUNDS,
    RESULTS,
    Result,
    duration,
    interleave,
    ratio,
    report,
    require_enough,
    require_warm_bytecode,
)
from uv import find_uv_bin

from provisioner.hydration.plan import plan
from provisioner.hydration.runner import Hydrated, hydrate
from provisioner.hydration.step import Launch, Place, Step
from provisioner.hydration.steps.nix.step import NixProfile
from provisioner.hydration.steps.python.packages import site_packages
from provisioner.hydration.steps.uv.declaration import Project, Requirements
from provisioner.hydration.steps.uv.step import UvEnvironment
from provisioner.settings.options import KernelOptions
from provisioner.system.removal import remove

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' own Nix store serves here as well
from tests.support.nix_store import NixStore, make_store

PACKAGES = ("ipykernel", "numpy", "pandas")
_READY_SECONDS = 60


def main() -> int:
    """Measure, print, write; return 1 if a bound is broken."""
    require_warm_bytecode()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=LEAST_ROUNDS)
    parser.add_argument("--json", type=Path, default=RESULTS / "hydration.json")
    options = parser.parse_args()
    rounds = require_enough(options.rounds)
    scratch = Path(tempfile.mkdtemp(prefix="benchmark-")).resolve()
    try:
        results = [
            *nix_launches(rounds, scratch),
            *uv_launches(rounds, scratch),
            *new_volumes(rounds, scratch),
            *starts(rounds, scratch),
        ]
    finally:
        remove(scratch)
    return report("What hydration costs a start", results, options.json)


def nix_launches(rounds: int, scratch: Path) -> list[Result]:
    """Compare a hydrated volume with `nix develop` at each launch; the flake evaluates next to nothing."""
    store, flake = _nix(scratch)
    env = {**os.environ, **store.env}
    place, launch, steps = new_place(scratch), _launch(env), [NixProfile(str(flake))]
    bring(steps, place, launch)
    develop = [str(shutil.which("nix")), "develop", f"path:{flake}", "--command", "true"]
    seconds = interleave(
        rounds,
        {
            "hydrated": lambda: hit(steps, place, launch),
            "nix develop": lambda: command(develop, env, scratch),
        },
    )
    return [
        duration("Nix: hit", seconds, of="hydrated", bound=1.0),
        ratio(
            "Nix: hit against `nix develop -c`", seconds, of="hydrated", to="nix develop", bound=0.1
        ),
    ]


def uv_launches(rounds: int, scratch: Path) -> list[Result]:
    """Compare a hydrated volume with a `uv sync` that has nothing to do at each launch."""
    project = scratch / "project"
    project.mkdir()
    names = ", ".join(f'"{name}"' for name in PACKAGES)
    (project / "pyproject.toml").write_text(
        f'[project]\nname = "project"\nversion = "1"\nrequires-python = ">=3.10"\n'
        f"dependencies = [{names}]\n"
    )
    place, launch = new_place(scratch), _launch(os.environ)
    steps = [UvEnvironment(Project(str(project)), _cache(scratch))]
    bring(steps, place, launch)
    env = {
        **os.environ,
        "UV_CACHE_DIR": str(_cache(scratch)),
        "UV_PROJECT_ENVIRONMENT": str(place.environment),
    }
    sync = [find_uv_bin(), "sync", "--quiet", "--offline", "--frozen", "--inexact"]
    seconds = interleave(
        rounds,
        {
            "hydrated": lambda: hit(steps, place, launch),
            "uv sync": lambda: command(sync, env, project),
        },
    )
    return [
        duration("uv: hit", seconds, of="hydrated", bound=1.0),
        ratio("uv: hit against `uv sync`", seconds, of="hydrated", to="uv sync", bound=0.1),
    ]


def new_volumes(rounds: int, scratch: Path) -> list[Result]:
    """Compare a new volume from a warm cache with `uv venv && uv pip sync` of the very same packages.

    Like for like is with bytecode: without it the first kernel pays for what the installer saved.
    """
    place, launch = new_place(scratch), _launch(os.environ)
    steps = [UvEnvironment(Requirements(PACKAGES), _cache(scratch))]
    bring(steps, place, launch)
    pins = scratch / "pins.txt"
    packages = site_packages(place.environment)
    assert packages is not None
    stems = (path.stem.replace("-", "==", 1) for path in packages.glob("*.dist-info"))
    pins.write_text("\n".join(stems))

    def hydrated() -> float:
        fresh = new_place(scratch)
        begin = time.perf_counter()
        bring(steps, fresh, launch)
        took = time.perf_counter() - begin
        remove(fresh.volume)
        return took

    def bare(*options: str) -> float:
        target = scratch / "bare"
        env = {**os.environ, "UV_CACHE_DIR": str(_cache(scratch)), "UV_LINK_MODE": "hardlink"}
        uv = find_uv_bin()
        took = command(
            [uv, "venv", "--quiet", "--python", sys.executable, str(target)], env, scratch
        )
        sync = [uv, "pip", "sync", "--quiet", "--offline", *options]
        took += command([*sync, "--python", str(target / "bin/python"), str(pins)], env, scratch)
        remove(target)
        return took

    seconds = interleave(
        rounds,
        {
            "new volume": hydrated,
            "uv, bytecode": lambda: bare("--compile-bytecode"),
            "uv, no bytecode": bare,
        },
    )
    return [
        ratio("uv: new volume, warm cache", seconds, of="new volume", to="uv, bytecode", bound=1.3),
        ratio(
            "… were bytecode left out", seconds, of="new volume", to="uv, no bytecode", bound=None
        ),
    ]


def starts(rounds: int, scratch: Path) -> list[Result]:
    """Compare the second start of a hydrated volume with a start that is not hydrated at all."""
    place, launch = new_place(scratch), _launch(os.environ)
    steps = plan(
        KernelOptions().having(requirements=list(PACKAGES), bootstrap_command=["true"]),
        _cache(scratch),
    )
    bring(steps, place, launch)
    plain = Launch((str(place.environment / "bin/python"), *launch.argv[1:]), launch.env)

    def hydrated() -> float:
        begin = time.perf_counter()
        inside = bring(steps, place, launch).launch
        return time.perf_counter() - begin + kernel(inside, scratch)

    seconds = interleave(rounds, {"hydrated": hydrated, "plain": lambda: kernel(plain, scratch)})
    return [ratio("start → ready, second start", seconds, of="hydrated", to="plain", bound=1.05)]


def bring(steps: Sequence[Step], place: Place, launch: Launch) -> Hydrated:
    """Hydrate as a start does, telling nobody."""
    return hydrate(
        steps,
        place,
        launch,
        repeat="benchmark",
        progress=lambda step, message, fraction=None: None,
        cancel=Event(),
    )


def hit(steps: Sequence[Step], place: Place, launch: Launch) -> float:
    """Hydrate what is hydrated; return the seconds."""
    begin = time.perf_counter()
    hydrated = bring(steps, place, launch)
    took = time.perf_counter() - begin
    assert all(report.hit for report in hydrated.report)
    return took


def command(argv: Sequence[str], env: dict[str, str], directory: Path) -> float:
    """Run a program; return the seconds."""
    begin = time.perf_counter()
    subprocess.run(argv, env=env, cwd=directory, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def kernel(launch: Launch, scratch: Path) -> float:
    """Start a kernel; return the seconds until its first reply."""
    connection = scratch / "kernel.json"
    connection.unlink(missing_ok=True)
    begin = time.perf_counter()
    write_connection_file(str(connection), ip="127.0.0.1")
    argv = [word.replace("{connection_file}", str(connection)) for word in launch.argv]
    process = subprocess.Popen(
        argv,
        env=dict(launch.env),
        cwd=scratch,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    # A client that connects before the kernel listens tries again after 100 to 200 ms, at random.
    with zmq.Context() as context:
        context.setsockopt(zmq.RECONNECT_IVL, 1)
        context.setsockopt(zmq.LINGER, 0)
        client = BlockingKernelClient(connection_file=str(connection), context=context)
        client.load_connection_file()
        client.start_channels(shell=True, iopub=False, stdin=False, hb=False, control=False)
        try:
            client.kernel_info()
            client.get_shell_msg(timeout=_READY_SECONDS)
            return time.perf_counter() - begin
        finally:
            client.stop_channels()
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def new_place(scratch: Path) -> Place:
    """Return an empty volume."""
    volume = Path(tempfile.mkdtemp(prefix="volume-", dir=scratch))
    (volume / ".state").mkdir(mode=0o700)
    return Place(volume, volume / ".state")


def _cache(scratch: Path) -> Path:
    return scratch / "uv-cache"


def _launch(env: os._Environ[str] | dict[str, str]) -> Launch:
    argv = (sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}")
    return Launch(argv, dict(env))


def _nix(scratch: Path) -> tuple[NixStore, Path]:
    (scratch / "nix").mkdir()
    store = make_store(scratch / "nix")
    return store, store.flake(scratch / "flake")


if __name__ == "__main__":
    sys.exit(main())
