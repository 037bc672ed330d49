"""What a volume costs a kernel, side by side with `local-provisioner` in the same run.

Run as `python benchmarks/kernel.py [--rounds 15] [--json PATH] [--importtime]`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Event
from uuid import uuid4

import zmq
from jupyter_client.manager import KernelManager
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

from provisioner.hydration.plan import plan
from provisioner.hydration.runner import hydrate
from provisioner.hydration.step import Launch, Place
from provisioner.pool.pool import Pool
from provisioner.settings.options import KernelOptions
from provisioner.settings.pool import load_settings

STOCK, VOLUME = "stock", "volume"
"""The two kernelspecs, alike but for the provisioner."""

_FEW, _MANY = 10, 2_000
"""Volumes in the pools whose acquires and listings are compared."""

_READY_SECONDS = 60

_IMPORT = """
import time, jupyter_client
begin = time.perf_counter()
import provisioner.kernel
print(time.perf_counter() - begin)
"""


def main() -> int:
    """Measure, print, write; return 1 if a bound is broken."""
    require_warm_bytecode()
    options = _parser().parse_args()
    rounds = require_enough(options.rounds)
    if options.importtime:
        print_import_times()
        return 0
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch, _own_jupyter(Path(scratch)):
        results = [
            *kernels(rounds),
            *pools(rounds, Path(scratch)),
            *overlays(rounds, Path(scratch)),
            *listings(rounds, Path(scratch)),
            *imports(rounds),
        ]
    return report("What a volume costs", results, options.json)


# -- kernels -------------------------------------------------------------------------------------------------


def kernels(rounds: int) -> list[Result]:
    """Compare starts and restarts: ready is a kernel at its first `kernel_info_reply`."""
    starts = interleave(
        rounds,
        {
            STOCK: lambda: start(STOCK, "one"),
            VOLUME: lambda: start(VOLUME, "one"),
            "new volume": lambda: start(VOLUME, str(uuid4())),
        },
    )
    with _running(STOCK) as stock, _running(VOLUME) as volume:
        restarts = interleave(
            rounds,
            {STOCK: lambda: restart(stock), VOLUME: lambda: restart(volume)},
        )
        at_once = interleave(
            rounds,
            {
                STOCK: lambda: restart(stock, now=True),
                VOLUME: lambda: restart(volume, now=True),
            },
        )
    return [
        ratio("start → ready", starts, of=VOLUME, to=STOCK, bound=1.05),
        ratio("start → ready, new volume", starts, of="new volume", to=STOCK, bound=1.05),
        ratio("restart → ready", restarts, of=VOLUME, to=STOCK, bound=1.05),
        ratio("restart(now) → ready", at_once, of=VOLUME, to=STOCK, bound=1.05),
    ]


def start(kernelspec: str, session: str) -> float:
    """Start a kernel, wait until it is ready, and end it; return the seconds until it was ready."""
    manager = KernelManager(kernel_name=kernelspec)
    begin = time.perf_counter()
    _launch(manager, session)
    wait_until_ready(manager)
    took = time.perf_counter() - begin
    manager.shutdown_kernel(now=True)
    return took


def restart(manager: KernelManager, *, now: bool = False) -> float:
    """Restart a kernel; return the seconds until it was ready again."""
    begin = time.perf_counter()
    manager.restart_kernel(now=now)
    wait_until_ready(manager)
    return time.perf_counter() - begin


def wait_until_ready(manager: KernelManager) -> None:
    """Ask the kernel for its info on a shell channel of our own, until it answers."""
    # A client that connects before the kernel listens tries again after 100 to 200 ms, at random: more than what
    # is measured here.
    with zmq.Context() as context:
        context.setsockopt(zmq.RECONNECT_IVL, 1)
        context.setsockopt(zmq.LINGER, 0)
        client = manager.client(context=context)
        client.start_channels(shell=True, iopub=False, stdin=False, hb=False, control=False)
        try:
            client.kernel_info()
            client.get_shell_msg(timeout=_READY_SECONDS)
        finally:
            client.stop_channels()


def _launch(manager: KernelManager, session: str) -> None:
    manager.start_kernel(
        env={**os.environ, "JUPYTER_VOLUME_SESSION": session},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@contextlib.contextmanager
def _running(kernelspec: str) -> Iterator[KernelManager]:
    manager = KernelManager(kernel_name=kernelspec)
    _launch(manager, "restarted")
    try:
        wait_until_ready(manager)
        yield manager
    finally:
        manager.shutdown_kernel(now=True)


# -- the pool ------------------------------------------------------------------------------------------------


def pools(rounds: int, scratch: Path) -> list[Result]:
    """Compare acquire and release of a known volume in a small and in a large pool."""
    few, many = _pool(scratch / "few", _FEW), _pool(scratch / "many", _MANY)
    # A pair takes milliseconds: more rounds cost nothing and steady the median.
    seconds = interleave(
        rounds * 10,
        {
            f"of {_FEW}": lambda: acquire_and_release(few, "session 5"),
            f"of {_MANY}": lambda: acquire_and_release(many, "session 5"),
        },
    )
    few.close()
    many.close()
    return [
        duration("acquire + release", seconds, of=f"of {_FEW}", bound=3.0),
        ratio("the same in a large pool", seconds, of=f"of {_MANY}", to=f"of {_FEW}", bound=1.2),
    ]


def acquire_and_release(pool: Pool, session: str) -> float:
    """Acquire a volume and give it back; return the seconds that both took."""
    begin = time.perf_counter()
    pool.release(pool.acquire(session, VOLUME, kernel="benchmark"))
    return time.perf_counter() - begin


def _pool(root: Path, volumes: int) -> Pool:
    os.environ["JUPYTER_VOLUMES_ROOT"] = str(root)
    pool = Pool(load_settings())
    for number in range(volumes):
        acquire_and_release(pool, f"session {number}")
    return pool


# -- the overlay ---------------------------------------------------------------------------------------------


def overlays(rounds: int, scratch: Path) -> list[Result]:
    """Time the making of an overlay environment in a volume without one, and finding it in one that has it."""
    home = scratch / "overlays"
    known = home / "known"
    seconds = interleave(
        rounds * 5,
        {
            "made": lambda: make_overlay(home / str(uuid4())),
            "found": lambda: make_overlay(known),
        },
    )
    return [
        duration("overlay made", seconds, of="made", bound=5.0),
        duration("overlay found", seconds, of="found", bound=None),
    ]


def make_overlay(volume: Path) -> float:
    """Hydrate a volume with an overlay as a kernel's start does; return the seconds."""
    state = volume / ".volume"
    state.mkdir(parents=True, exist_ok=True)
    launch = Launch((sys.executable, "-m", "ipykernel_launcher"), os.environ)
    begin = time.perf_counter()
    hydrate(
        plan(KernelOptions(), volume.parent / "uv"),
        Place(volume, state),
        launch,
        repeat=volume.name,
        progress=lambda step, message, fraction=None: None,
        cancel=Event(),
    )
    return time.perf_counter() - begin


# -- processes -----------------------------------------------------------------------------------------------


def listings(rounds: int, scratch: Path) -> list[Result]:
    """Compare `jupyter volumes list` of the large pool with that of an empty root."""
    program = Path(sysconfig.get_path("scripts"), "jupyter-volumes")
    seconds = interleave(
        rounds,
        {
            "empty": lambda: _list(program, scratch / "empty"),
            f"of {_MANY}": lambda: _list(program, scratch / "many"),
        },
    )
    return [ratio("volumes list, large pool", seconds, of=f"of {_MANY}", to="empty", bound=1.5)]


def _list(program: Path, root: Path) -> float:
    env = {**os.environ, "JUPYTER_VOLUMES_ROOT": str(root)}
    begin = time.perf_counter()
    subprocess.run([program, "list"], env=env, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def imports(rounds: int) -> list[Result]:
    """Time the import of the provisioner in processes that have imported jupyter_client already."""
    seconds = interleave(rounds, {"import": lambda: float(_python("-c", _IMPORT).stdout)})
    return [duration("import provisioner.kernel", seconds, of="import", bound=40.0)]


def print_import_times() -> None:
    """Print what the import of the provisioner spends its time on, dearest last, in milliseconds."""
    _python("-c", _IMPORT)
    lines = _python("-X", "importtime", "-c", _IMPORT).stderr.splitlines()
    already = next(n for n, line in enumerate(lines) if line.split("|")[-1] == " jupyter_client")
    timed = [line.removeprefix("import time:").split("|") for line in lines[already + 1 :]]
    print("      self   with all  module")
    for own, cumulative, module in sorted(timed, key=lambda columns: int(columns[1])):
        if int(cumulative) >= 500:
            print(f"{int(own) / 1000:10.2f} {int(cumulative) / 1000:10.2f} {module}")


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True)


# -- surroundings --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _own_jupyter(scratch: Path) -> Iterator[None]:
    """Keep the measured kernels away from the user's Jupyter directories, and give them two kernelspecs."""
    before = dict(os.environ)
    config = {"VolumePool": {"max_volumes": 2 * _MANY}}
    _write_json(scratch / "config" / "jupyter_volumes_config.json", config)
    _write_kernelspec(scratch, STOCK, {"provisioner_name": "local-provisioner"})
    _write_kernelspec(scratch, VOLUME, {"provisioner_name": "volume-provisioner"})
    os.environ.update(
        JUPYTER_CONFIG_DIR=str(scratch / "config"),
        JUPYTER_DATA_DIR=str(scratch / "data"),
        JUPYTER_RUNTIME_DIR=str(scratch / "runtime"),
        JUPYTER_VOLUMES_ROOT=str(scratch / "root"),
        IPYTHONDIR=str(scratch / "ipython"),
    )
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _write_kernelspec(scratch: Path, name: str, stanza: Mapping[str, str]) -> None:
    spec = {
        "argv": ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": name,
        "language": "python",
        "metadata": {"kernel_provisioner": stanza},
    }
    _write_json(scratch / "data" / "kernels" / name / "kernel.json", spec)


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Measure what a volume costs a kernel, side by side with local-provisioner."
    )
    parser.add_argument("--rounds", type=int, default=LEAST_ROUNDS)
    parser.add_argument("--json", type=Path, default=RESULTS / "kernel.json")
    parser.add_argument(
        "--importtime",
        action="store_true",
        help="only print what the import of the provisioner spends its time on",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
