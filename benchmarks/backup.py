"""Backups side by side: this package, ``tar | zstd``, restic and borg.

    python benchmarks/backup.py [--quick] [--rounds N] [--scratch DIR] [--environment DIR]

Three trees: a real environment (copied from this Python's packages, at least 30,000 files and 600 MB),
generated data (1 GiB of mixed entropy), and 100,000 tiny files. Each round runs every tool once, in
turn, on a warm cache; times are medians. Every run is a process of its own. Ours is timed inside it,
without the start of Python, because it runs inside a server that is up already; the start (about
0.1 s) is in the table as "with start". Restores go to the scratch directory: give a RAM disk
(/dev/shm) to measure the tools and not the disk. Restores are compared with ``tar -x`` of the same
backup, which gives the same files; GNU tar's own archive is smaller, as it keeps whole seconds only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
OURS = """
import json, sys, threading, time
from datetime import datetime, timezone
from pathlib import Path
from provisioner.backup.format.manifest import About
from provisioner.backup.destinations.urls import destination_for
from provisioner.backup.operation import restore_backup, write_backup
from provisioner.backup.writer import write_archive
from provisioner.backup import extractor  # loaded before the clock runs
what, source, place = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
moment = datetime(2026, 1, 1, tzinfo=timezone.utc)
about = About("volume", "session", "kernelspec", 1, moment)
never = threading.Event()
start = time.perf_counter()
if what == "archive":
    with open(place, "wb", buffering=0) as stream:
        write_archive(source, stream, about, cancel=never)
elif what == "verified":
    write_backup(source, destination_for(place), about, cancel=never)
else:
    if what == "restore":  # as tar does, without waiting for the disk
        extractor.flush_tree = lambda top: None
    restore_backup(destination_for(source), about.name, place, cancel=never)
seconds = time.perf_counter() - start
# Not ru_maxrss, which on Linux begins with the peak of the parent process.
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
peak = int(status["VmHWM"].split()[0]) * 1024
print(json.dumps({"seconds": seconds, "peak": peak}))
"""


@dataclass
class Runs:
    """What one tool took, run by run."""

    seconds: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    peak: int = 0

    @property
    def median(self) -> float:
        """The middle run, in seconds."""
        return statistics.median(self.seconds)


def main() -> None:
    options = _options()
    scratch = Path(tempfile.mkdtemp(prefix="backup-benchmark-", dir=options.scratch))
    try:
        results = {
            name: _measure(tree, scratch, options.rounds)
            for name, tree in _trees(scratch, options).items()
        }
    finally:
        shutil.rmtree(scratch)
    _report(results, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare backups with tar, restic and borg.")
    parser.add_argument("--quick", action="store_true", help="a tenth of each tree, two rounds")
    parser.add_argument("--rounds", type=int, help="how often each tool runs (default 5)")
    parser.add_argument("--scratch", type=Path, default=None, help="where trees and backups go")
    parser.add_argument("--environment", type=Path, default=Path(sysconfig.get_path("purelib")))
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 5)
    missing = [tool for tool in ("tar", "zstd", "restic", "borg") if shutil.which(tool) is None]
    if missing:
        sys.exit(f"missing: {', '.join(missing)}; apt-get install tar zstd restic borgbackup")
    return options


def _trees(scratch: Path, options: argparse.Namespace) -> dict[str, Path]:
    share = 10 if options.quick else 1
    trees = {name: scratch / name for name in ("environment", "data", "tiny files")}
    _plant_environment(
        trees["environment"], options.environment, 30_000 // share, 600_000_000 // share
    )
    _plant_data(trees["data"], (1 << 30) // share)
    _plant_tiny(trees["tiny files"], 100_000 // share)
    return trees


def _plant_environment(top: Path, source: Path, files: int, size: int) -> None:
    """Copy packages, and then copies of them, until there are enough files and bytes."""
    top.mkdir()
    count = total = number = 0
    while count < files or total < size:
        for package in sorted(source.iterdir()):
            target = top / f"copy-{number}" / package.name
            if package.is_dir():
                shutil.copytree(package, target, symlinks=True)
            else:
                target.parent.mkdir(exist_ok=True)
                shutil.copy2(package, target, follow_symlinks=False)
            found = [package] if not package.is_dir() else list(package.rglob("*"))
            count += len(found)
            total += sum(path.stat().st_size for path in found if path.is_file())
            if count >= files and total >= size:
                break
        number += 1
    copies = "" if number == 1 else f" ({number} copies of it: repeats favour restic and borg)"
    print(f"environment: {count:,} files, {total / 1e6:.0f} MB from {source}{copies}")


def _plant_data(top: Path, size: int) -> None:
    """Plant files of four kinds: random bytes, words, numbers as text, half zeros."""
    top.mkdir()
    chance = random.Random(1)
    words = [chance.randbytes(chance.randint(2, 9)).hex().encode() for _ in range(5000)]
    kinds: list[Callable[[], bytes]] = [
        lambda: chance.randbytes(1 << 20),
        lambda: b" ".join(chance.choices(words, k=100_000)),
        lambda: b"".join(
            b"%.4f,%d\n" % (chance.random(), chance.randint(0, 99)) for _ in range(110_000)
        ),
        lambda: (chance.randbytes(1 << 16) + bytes(1 << 16)) * 8,
    ]
    for number in range(40):
        with (top / f"file-{number:02}").open("wb") as file:
            for _ in range(max(1, (size >> 20) // 40)):
                file.write(kinds[number % 4]()[: 1 << 20])


def _plant_tiny(top: Path, count: int) -> None:
    chance = random.Random(2)
    for directory in range(count // 500):
        (top / f"{directory:03}").mkdir(parents=True)
        for number in range(500):
            text = chance.randbytes(chance.randint(20, 600)).hex()
            (top / f"{directory:03}" / f"{number:03}.txt").write_text(text)


def _measure(tree: Path, scratch: Path, rounds: int) -> dict[str, Runs]:
    """Run every tool in turn, round by round, after one round that only warms the cache.

    The restores begin with another one in each round: the first may meet memory that the machine has to fetch.
    """
    work = scratch / "work"
    backups, restores = _backup_tools(tree, work), list(_restore_tools(work).items())
    runs = {name: Runs() for name in (*backups, *dict(restores))}
    for turn in range(rounds + 1):
        shutil.rmtree(work, ignore_errors=True)
        (work / "kept").mkdir(parents=True)
        at = turn % len(restores)
        for name, run in (*backups.items(), *restores[at:], *restores[:at]):
            seconds, whole, peak = run()
            if turn:
                runs[name].seconds.append(seconds)
                runs[name].whole.append(whole)
                runs[name].peak = max(runs[name].peak, peak)
    shutil.rmtree(work)
    return runs


Tool = Callable[[], tuple[float, float, int]]


def _backup_tools(tree: Path, work: Path) -> dict[str, Tool]:
    quoted = f"tar -C '{tree}' -cf - . | zstd -q -3 -T0 -f -o '{work}/kept/tar.zst'"
    borg = {
        "BORG_REPO": f"{work}/borg",
        "BORG_CACHE_DIR": f"{work}/cache",
        "BORG_BASE_DIR": f"{work}",
    }
    restic = {
        "RESTIC_REPOSITORY": f"{work}/restic",
        "RESTIC_PASSWORD": "x",
        "RESTIC_CACHE_DIR": f"{work}/rc",
    }
    return {
        "tar | zstd -3 -T0": lambda: _run(["sh", "-c", quoted]),
        "ours, written": lambda: _ours("archive", tree, work / "kept" / "own.tar.zst"),
        "ours, written + verified": lambda: _ours("verified", tree, work / "verified"),
        "restic": lambda: _run(
            ["restic", "-q", "backup", str(tree)], restic, before=["restic", "-q", "init"]
        ),
        "borg": lambda: _run(
            ["borg", "create", "-C", "zstd,3", "::a", str(tree)],
            borg,
            before=["borg", "init", "-e", "none"],
        ),
    }


def _restore_tools(work: Path) -> dict[str, Tool]:
    def fresh(run: Callable[[Path], tuple[float, float, int]]) -> Tool:
        def on_fresh() -> tuple[float, float, int]:
            target = work / "restored"
            try:
                return run(target)
            finally:
                shutil.rmtree(target)

        return on_fresh

    def tar(target: Path, archive: str, then: str = "") -> tuple[float, float, int]:
        line = f"mkdir '{target}' && tar --zstd -C '{target}' -xf {work}/{archive} {then}"
        return _run(["sh", "-c", line])

    own, same = "kept/tar.zst", "verified/*.tar.zst"
    return {
        "tar -x (its own archive)": fresh(lambda target: tar(target, own)),
        "tar -x (the same backup)": fresh(lambda target: tar(target, same)),
        "ours, restored": fresh(lambda target: _ours("restore", work / "verified", target)),
        "tar -x && sync": fresh(lambda target: tar(target, same, f"&& sync -f '{target}'")),
        "ours, restored + synced": fresh(
            lambda target: _ours("durable", work / "verified", target)
        ),
    }


def _ours(what: str, source: Path, place: Path) -> tuple[float, float, int]:
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", OURS, what, source, place],
        check=True,
        capture_output=True,
        cwd=Path(__file__).parents[1],
    )
    whole = time.perf_counter() - start
    said = json.loads(done.stdout)
    return said["seconds"], whole, said["peak"]


def _run(
    command: list[str], settings: dict[str, str] | None = None, before: list[str] | None = None
) -> tuple[float, float, int]:
    environment = {**os.environ, **(settings or {})}
    if before:
        subprocess.run(before, check=True, env=environment, capture_output=True)
    start = time.perf_counter()
    subprocess.run(command, check=True, env=environment, capture_output=True)
    seconds = time.perf_counter() - start
    return seconds, seconds, 0


# What each of ours is divided by, and the bound: on the first two trees, and on tiny files.
BOUNDS = {
    "ours, written": ("tar | zstd -3 -T0", 1.15, 1.5),
    "ours, restored": ("tar -x (the same backup)", 1.3, 1.3),
    "ours, restored + synced": ("tar -x && sync", 1.3, 1.3),
}


def _report(results: dict[str, dict[str, Runs]], options: argparse.Namespace) -> None:
    for tree, runs in results.items():
        print(
            f"\n{tree}\n  {'':28}{'median s':>10}{'with start':>12}{'ratio':>8}{'bound':>8}{'peak MB':>9}"
        )
        for name, run in runs.items():
            against, usual, tiny = BOUNDS.get(name, ("", 0.0, 0.0))
            is_restore = list(runs).index(name) >= list(runs).index("tar -x (its own archive)")
            base = against or ("tar -x (the same backup)" if is_restore else "tar | zstd -3 -T0")
            bound = (tiny if tree == "tiny files" else usual) if against else None
            print(
                f"  {name:28}{run.median:10.3f}{statistics.median(run.whole):12.3f}"
                f"{run.median / runs[base].median:8.2f}{bound or '':>8}"
                f"{f'{run.peak / 1e6:.0f}' if run.peak else '':>9}"
            )
    RESULTS.mkdir(exist_ok=True)
    record = {
        "when": datetime.now(timezone.utc).isoformat(),
        "machine": platform.platform(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "quick": options.quick,
        "rounds": options.rounds,
        "trees": {
            tree: {
                name: {"seconds": run.seconds, "with_start": run.whole, "peak_bytes": run.peak}
                for name, run in runs.items()
            }
            for tree, runs in results.items()
        },
    }
    path = RESULTS / "backup.json"
    path.write_text(json.dumps(record, indent=2))
    print(f"\nwritten to {path}")


if __name__ == "__main__":
    main()
