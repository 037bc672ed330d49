"""What upkeep costs: `python benchmarks/upkeep.py`.

A sweep over 100,000 records with nothing due, and with 100 and 200 due; pruning 100,000 files as the user sees it;
claiming a spare with an environment of 30,000 files. Peers: a query over the whole table for the sweep,
`shutil.rmtree` for pruning, `cp -al` (hard links) for the claim.
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import subprocess
import tempfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

from measure import (
    LEAST_ROUNDS,
    RESULTS,
    Result,
    duration,
    interleave,
    ratio,
    report,
    require_enough,
)

from provisioner.core.record import Spare
from provisioner.maintenance.sweep import sweep
from provisioner.pool.pool import Pool
from provisioner.settings.pool import VolumePool
from provisioner.system.layout import make, new_id

RECORDS = 100_000
FILES = 100_000
ENVIRONMENT_FILES = 30_000
NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=LEAST_ROUNDS)
    parser.add_argument("--json", type=Path, default=RESULTS / "upkeep.json")
    args = parser.parse_args()
    rounds = require_enough(args.rounds)
    with tempfile.TemporaryDirectory(prefix="upkeep-") as scratch:
        results = [
            *sweeps(Path(scratch), rounds),
            *due_sweeps(Path(scratch)),
            *prunes(Path(scratch)),
            *claims(Path(scratch), rounds),
        ]
    return report("Upkeep", results, args.json)


def pool_at(root: Path, **settings: object) -> Pool:
    return Pool(VolumePool(root=str(root), max_volumes=10**9, **settings), clock=lambda: NOW)


def sweeps(scratch: Path, rounds: int) -> list[Result]:
    """Sweep 100,000 stopped, backed-up volumes of which none is due."""
    pool = pool_at(scratch / "many")
    stopped = (NOW - timedelta(days=1)).timestamp()
    fill_table(pool, RECORDS, stopped, backed_up=1)
    sweep(pool, deep=False)
    table = sqlite3.connect(pool.root.registry.path)

    def whole_table() -> float:
        began = time.perf_counter()
        query = "SELECT count(*) FROM volumes WHERE stopped + 1209600 < ? AND +state = 'stopped'"
        table.execute(query, (NOW.timestamp(),)).fetchall()
        return time.perf_counter() - began

    def ours() -> float:
        began = time.perf_counter()
        assert sweep(pool, deep=False).steps == ()
        return time.perf_counter() - began

    seconds = interleave(rounds, {"sweep": ours, "query over the whole table": whole_table})
    return [
        duration("sweep of 100,000 records, nothing due", seconds, of="sweep", bound=20.0),
        ratio("  against", seconds, of="sweep", to="query over the whole table", bound=None),
    ]


def due_sweeps(scratch: Path) -> list[Result]:
    """Sweep 100,000 records of which 100, then 200, are due for a backup."""
    pool = pool_at(scratch / "due")
    fill_table(pool, RECORDS, (NOW - timedelta(hours=1)).timestamp(), backed_up=1)
    table = sqlite3.connect(pool.root.registry.path)
    ids = [row[0] for row in table.execute("SELECT id FROM volumes LIMIT 200")]
    for volume_id in ids:
        path = pool.root.layout.volume(volume_id)
        make(path)
        (path / "file").write_bytes(b"x" * 1000)

    def due(count: int) -> float:
        with table:
            table.executemany(
                "UPDATE volumes SET backed_up = 0 WHERE id = ?", [(i,) for i in ids[:count]]
            )
            table.execute("DELETE FROM backups")
        for left in Path(pool.settings.destination).glob("*.zst"):
            left.unlink()
        began = time.perf_counter()
        report = sweep(pool, deep=False)
        took = time.perf_counter() - began
        assert len(report.steps) == count, report
        assert not any(step.error for step in report.steps)
        return took

    contestants = {"100 due": lambda: due(100), "200 due": lambda: due(200)}
    seconds = interleave(3, contestants)
    return [
        ratio(
            "200 due against 100 due (2 is proportional)",
            seconds,
            of="200 due",
            to="100 due",
            bound=2.3,
        )
    ]


def prunes(scratch: Path) -> list[Result]:
    """Prune a volume of 100,000 files, against deleting as many."""
    pool = pool_at(scratch / "prune")

    def ours() -> float:
        acquired = pool.acquire("big", "k", kernel="k")
        make_files(acquired.path, FILES)
        pool.release(acquired)
        began = time.perf_counter()
        pool.prune(acquired.record.id, force=True)
        took = time.perf_counter() - began
        assert not acquired.path.exists()
        pool.files.trash.empty()
        return took

    def rmtree() -> float:
        tree = scratch / "tree"
        tree.mkdir()
        make_files(tree, FILES)
        began = time.perf_counter()
        shutil.rmtree(tree)
        return time.perf_counter() - began

    seconds = interleave(3, {"prune": ours, "rmtree": rmtree})
    return [
        duration("prune of 100,000 files, as a user sees it", seconds, of="prune", bound=20.0),
        ratio("  against", seconds, of="prune", to="rmtree", bound=None),
    ]


def claims(scratch: Path, rounds: int) -> list[Result]:
    """Acquire a new session that claims a spare of 30,000 files, against cloning one by hard links."""
    pool = pool_at(scratch / "claim")
    template = scratch / "template"
    template.mkdir()
    make_files(template, ENVIRONMENT_FILES)
    record = pool.root.registry.spares.create(new_id(), "k", NOW, 1, 10**9)
    assert record is not None
    make(pool.path(record))
    make_files(pool.path(record), ENVIRONMENT_FILES)
    count = iter(range(10**6))

    def ours() -> float:
        assert record is not None
        pool.root.registry.spares.set(record.id, Spare.READY)
        session = f"session-{next(count)}"
        began = time.perf_counter()
        acquired = pool.acquire(session, "k", kernel="k")
        took = time.perf_counter() - began
        assert acquired.record.id == record.id
        pool.release(acquired)
        return took

    def hard_links() -> float:
        target = scratch / "clone"
        began = time.perf_counter()
        subprocess.run(["cp", "-al", str(template), str(target)], check=True)
        took = time.perf_counter() - began
        shutil.rmtree(target)
        return took

    seconds = interleave(rounds, {"claim": ours, "cp -al": hard_links})
    return [
        duration("claim of a spare of 30,000 files", seconds, of="claim", bound=30.0),
        ratio("  against", seconds, of="claim", to="cp -al", bound=None),
    ]


def make_files(directory: Path, count: int) -> None:
    for number in range(count):
        if number % 1000 == 0:
            part = directory / f"part-{number // 1000}"
            part.mkdir()
        (part / str(number)).touch()


def fill_table(pool: Pool, count: int, stopped: float, backed_up: int) -> None:
    """Enter many stopped volumes and a backup of each."""
    table = sqlite3.connect(pool.root.registry.path)
    with table:
        table.executemany(
            "INSERT INTO volumes (id, session, kernelspec, state, generation, backed_up, created, stopped) "
            "VALUES (?, ?, 'k', 'stopped', 1, ?, ?, ?)",
            [
                (f"v1-{n:020x}", f"/home/u/{n}.ipynb", backed_up, stopped, stopped)
                for n in range(count)
            ],
        )
        table.executemany(
            "INSERT INTO backups VALUES (?, '', ?, 1, ?, 1000, 1, 1000, 0, ?)",
            [(f"b{n}", f"v1-{n:020x}", stopped, stopped) for n in range(count)],
        )
    table.close()


if __name__ == "__main__":
    raise SystemExit(main())
