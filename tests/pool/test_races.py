"""Many processes at once: one volume for a session, one holder for a volume, never more than the pool holds."""

from __future__ import annotations

import collections
import contextlib
import os
import subprocess
from pathlib import Path

from provisioner.core.record import State
from provisioner.pool.pool import Pool
from provisioner.settings.pool import VolumePool
from tests.support.processes import line_of, running, tell

PROCESSES = 32

RACER = """
import sys
from provisioner.settings.pool import VolumePool
from provisioner.core.errors import VolumeError
from provisioner.pool.pool import Pool
root, session, places = sys.argv[1:]
pool = Pool(VolumePool(root=root, max_volumes=int(places)))
print("ready", flush=True)
for line in sys.stdin:
    try:
        if line == "go\\n":
            acquired = pool.acquire(session, "python3", kernel=session)
            (acquired.path / "mine").write_text(session)
            print("acquired", acquired.path, flush=True)
        else:
            pool.release(acquired)
            print("released", flush=True)
    except VolumeError as error:
        print(error.code, error, flush=True)
"""


class Race:
    """Processes that stand at the line."""

    def __init__(self, root: Path, sessions: list[str], places: int) -> None:
        self._stack = contextlib.ExitStack()
        self.racers: list[subprocess.Popen[str]] = [
            self._stack.enter_context(running(RACER, str(root), session, str(places)))
            for session in sessions
        ]
        self.pool = Pool(VolumePool(root=str(root), max_volumes=places))

    def __enter__(self) -> Race:
        for racer in self.racers:
            assert line_of(racer) == "ready"
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self.pool.close()

    def run(self) -> list[list[str]]:
        """Let all acquire at the same time; return what each says, its first word apart."""
        for racer in self.racers:
            tell(racer, "go")
        return [line_of(racer).split(" ", 1) for racer in self.racers]

    def end(self, racer: subprocess.Popen[str]) -> None:
        """Let one release."""
        tell(racer, "release")
        assert line_of(racer) == "released"


def test_of_many_processes_that_ask_for_one_session_one_gets_it_and_all_others_are_told(
    root: Path,
) -> None:
    with Race(root, ["a"] * PROCESSES, 500) as race:
        for generation in (1, 2):
            said = race.run()
            assert collections.Counter(word for word, _ in said) == {
                "acquired": 1,
                "held": PROCESSES - 1,
            }
            (winner,) = (
                r for r, (word, _) in zip(race.racers, said, strict=True) if word == "acquired"
            )
            for word, line in said:
                assert word == "acquired" or f"process {winner.pid}" in line
            records = race.pool.volumes()
            assert [(r.session, r.state, r.generation) for r in records] == [
                ("a", State.ACTIVE, generation)
            ]
            assert os.listdir(race.pool.root.layout.volumes) == [records[0].id]
            race.end(winner)
        assert not race.pool.leases.is_held(records[0])


def test_of_many_processes_that_ask_for_few_places_just_as_many_get_one(root: Path) -> None:
    places = 8
    with Race(root, [f"session {number}" for number in range(PROCESSES)], places) as race:
        said = race.run()
        assert collections.Counter(word for word, _ in said) == {
            "acquired": places,
            "pool-full": PROCESSES - places,
        }
        assert all("max_volumes" in line for word, line in said if word == "pool-full")
        assert race.pool.root.registry.volumes.slots_taken() == places
        assert len(os.listdir(race.pool.root.layout.volumes)) == places
        assert len(os.listdir(race.pool.root.layout.leases)) == places
        won = {line for word, line in said if word == "acquired"}
        assert len(won) == places
        for volume in won:
            assert (Path(volume) / "mine").is_file()
        assert {r.state for r in race.pool.volumes()} == {State.ACTIVE}
