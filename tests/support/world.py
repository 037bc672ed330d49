"""A pool with a clock that the test moves, and a record of what users wrote into their volumes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from provisioner.core.record import Record
from provisioner.pool.kernels import Acquired
from provisioner.pool.pool import Pool
from provisioner.settings.pool import VolumePool
from provisioner.system.layout import STATE_DIRECTORY
from tests.support.children import Child
from tests.support.pools import leftovers

Content = dict[str, bytes]
Steps = Callable[[str], None]
"""Called with the name of each step."""


class Clock:
    """A clock that stands still until the test moves it."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **duration: float) -> None:
        """Move the clock forward."""
        self.now += timedelta(**duration)


class World:
    """One root, and the files that each session's owner expects in its volume."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.clock = Clock()
        self.settings = VolumePool(
            root=str(root),
            backup_after=settings.pop("backup_after", timedelta(minutes=10)),
            prune_after=settings.pop("prune_after", timedelta(days=14)),
            headroom=settings.pop("headroom", 0),
            **settings,
        )
        self.pool = self.new_pool()
        self.written: dict[str, Content] = {}
        self._serial = 0

    def new_pool(self, on_step: Steps = lambda step: None) -> Pool:
        """Return a second pool over the root, as another process would open it."""
        return Pool(self.settings, self.clock, on_step)

    def acquire(self, session: str, pool: Pool | None = None) -> Acquired:
        """Acquire a volume as a kernel does."""
        self._serial += 1
        return (pool or self.pool).acquire(session, "python3-volume", kernel=f"k{self._serial}")

    def use(self, session: str, **files: str) -> Record:
        """Acquire a volume, write files into it, release it; return the record."""
        acquired = self.acquire(session)
        for name, text in files.items():
            self.write(acquired, name, text.encode())
        self.pool.release(acquired)
        return self.record(session)

    def write(self, acquired: Acquired, name: str, content: bytes) -> None:
        """Write a file as a kernel does, and remember it."""
        path = acquired.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.written.setdefault(acquired.record.session, {})[name] = content

    def record(self, session: str) -> Record:
        """Return the record of a session's volume."""
        record = self.pool.root.registry.names.find(session)
        assert record is not None
        return record

    def path(self, session: str) -> Path:
        """Return the directory of a session's volume."""
        return self.pool.path(self.record(session))

    def is_on_disk(self, session: str) -> bool:
        """Whether a session's files lie on disk."""
        return self.path(session).exists()

    def safe_content(self, session: str, into: Path) -> Content:
        """Return a session's files from where they are safe: the disk, else the newest backup, verified."""
        record = self.record(session)
        if self.pool.path(record).exists():
            return content_of(self.pool.path(record))
        backup = self.pool.backups.stored.newest(record)
        assert backup is not None, f"{session}: neither files nor a backup"
        self.pool.backups.stored.restore_to(backup, into)
        return content_of(into)

    def leftovers(self) -> list[str]:
        """Return what lies under the root and belongs to no volume or backup."""
        known = {backup.name for backup in self.pool.backups.list()}
        made = [path.name for path in Path(self.settings.destination).glob("*")]
        return [*leftovers(self.pool), *(f"backups/{name}" for name in made if name not in known)]


Work = Callable[[World, Pool], object]


def as_another_process(work: Work, world: World) -> Callable[[Steps], object]:
    """Return the work as another process would do it, given what is told its steps."""
    return lambda on_step: work(world, world.new_pool(on_step))


def content_of(directory: Path) -> Content:
    """Return the user's files below a directory, by relative path."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and STATE_DIRECTORY not in path.relative_to(directory).parts
    }


def steps_of(work: Callable[[Steps], object]) -> list[str]:
    """Return the names of the steps of `work`, which is done in a forked child."""

    def name_steps() -> str:
        names: list[str] = []
        work(names.append)
        return "\n".join([*names, "done"])

    with Child(name_steps) as child:
        *names, end = child.said().splitlines()
    assert end == "done", f"the work failed: {end}"
    return names


def kill_at(number: int, work: Callable[[Steps], object]) -> bool:
    """Do `work` in a forked child that is killed (SIGKILL) before its step `number`; return whether it was."""
    count = iter(range(number + 1))

    def die(step: str) -> None:
        if next(count) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def do() -> str:
        work(die)
        return "done"

    with Child(do) as child:
        said = child.said()
    assert said in {"", "done"}, f"the work failed instead of being killed: {said}"
    return not said
