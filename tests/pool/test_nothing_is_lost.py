"""Whatever happens, in whatever order: the bytes a user wrote are on disk or in a verified backup."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from provisioner.core.errors import (
    BackupFailed,
    DiskFull,
    NotBackedUp,
    PoolFull,
    RestoreFailed,
    VolumeError,
    VolumeHeld,
)
from provisioner.maintenance.sweep import sweep
from provisioner.pool.kernels import Acquired
from provisioner.pool.pool import Pool
from tests.support.disks import SmallDisk
from tests.support.world import World, content_of, kill_at

SESSIONS = st.sampled_from(["a", "b", "c"])
PLACES = 2
REFUSALS = (VolumeHeld, NotBackedUp, BackupFailed, DiskFull, PoolFull, RestoreFailed)


class Life(RuleBasedStateMachine):
    """People, sweeps, crashes and a full disk at work on one root."""

    @initialize()
    def begin(self) -> None:
        self.scratch = Path(tempfile.mkdtemp(prefix="life-"))
        self.disk = SmallDisk(self.scratch / "backups", 1_000_000)
        self.disk.mount()
        self.world = World(
            self.scratch / "root", max_volumes=PLACES, backup_destination=str(self.disk.path)
        )
        self.held: dict[str, Acquired] = {}
        self.serial = itertools.count()
        self.checked: dict[str, dict[str, bytes]] = {}

    def teardown(self) -> None:
        if hasattr(self, "disk"):
            for acquired in self.held.values():
                self.world.pool.release(acquired)
            self.world.pool.close()
            self.disk.unmount()
            shutil.rmtree(self.scratch)

    # -- people ------------------------------------------------------------------------------------------------

    @rule(session=SESSIONS)
    def acquire(self, session: str) -> None:
        if session not in self.held:
            try:
                self.held[session] = self.world.acquire(session)
            except (PoolFull, DiskFull):
                return
            assert content_of(self.held[session].path) == self.world.written.get(session, {})

    @rule(session=SESSIONS, name=st.sampled_from(["x", "y", "d/z"]), size=st.integers(0, 3000))
    def write(self, session: str, name: str, size: int) -> None:
        if session in self.held:
            self.world.write(self.held[session], name, os.urandom(size))

    @rule(session=SESSIONS)
    def release(self, session: str) -> None:
        if session in self.held:
            self.world.pool.release(self.held.pop(session))

    @rule(session=SESSIONS)
    def prune_by_hand(self, session: str) -> None:
        self.on_volume(session, lambda pool, volume_id: pool.prune(volume_id))

    @rule(session=SESSIONS)
    def back_up_by_hand(self, session: str) -> None:
        self.on_volume(session, lambda pool, volume_id: pool.back_up(volume_id))

    @rule(session=SESSIONS)
    def restore_by_hand(self, session: str) -> None:
        record = self.world.pool.root.registry.names.find(session)
        if record is not None and not self.world.pool.path(record).exists():
            self.on_volume(session, lambda pool, volume_id: pool.restore(volume_id))

    @rule(session=SESSIONS, pinned=st.booleans())
    def pin(self, session: str, pinned: bool) -> None:
        self.on_volume(session, lambda pool, volume_id: pool.catalog.pin(volume_id, pinned))

    # -- time, maintenance, misfortune -------------------------------------------------------------------------

    @rule(hours=st.sampled_from([0.1, 1, 24, 24 * 20]))
    def time_passes(self, hours: float) -> None:
        self.world.clock.advance(hours=hours)

    @rule(deep=st.booleans())
    def sweep(self, deep: bool) -> None:
        sweep(self.world.pool, deep=deep)

    @rule()
    def disk_fills(self) -> None:
        self.disk.fill()

    @rule()
    def disk_has_room_again(self) -> None:
        self.disk.drain()

    @rule(session=SESSIONS, step=st.integers(0, 25), work=st.sampled_from(["acquire", "sweep"]))
    def process_is_killed(self, session: str, step: int, work: str) -> None:
        if self.held:
            return  # the child would inherit the leases and free them only for itself

        def do(on_step: Callable[[str], None]) -> None:
            pool = self.world.new_pool(on_step)
            with contextlib.suppress(VolumeError):
                if work == "sweep":
                    sweep(pool)
                else:
                    self.world.acquire(session, pool)

        if not kill_at(step, do) and work == "acquire":
            # It came to its end and the process is gone, as after a shutdown nobody cleaned up after.
            sweep(self.world.pool)

    def on_volume(self, session: str, work: Callable[[Pool, str], object]) -> None:
        record = self.world.pool.root.registry.names.find(session)
        if record is not None:
            with contextlib.suppress(*REFUSALS):
                work(self.world.pool, record.id)

    # -- what must always be true ------------------------------------------------------------------------------

    @invariant()
    def the_bytes_are_on_disk_or_in_a_verified_backup(self) -> None:
        if not hasattr(self, "world"):
            return
        for session, written in self.world.written.items():
            record = self.world.pool.root.registry.names.find(session)
            assert record is not None
            path = self.world.pool.path(record)
            if path.exists():
                assert content_of(path) == written
                continue
            backup = self.world.pool.backups.stored.newest(record)
            assert backup is not None
            if backup.name not in self.checked:
                into = self.scratch / f"check-{next(self.serial)}"
                self.world.pool.backups.stored.restore_to(backup, into)
                self.checked[backup.name] = content_of(into)
            assert self.checked[backup.name] == written

    @invariant()
    def the_capacity_is_not_exceeded(self) -> None:
        if hasattr(self, "world"):
            assert len(os.listdir(self.world.pool.root.layout.volumes)) <= PLACES


Life.TestCase.settings = settings(
    max_examples=60 if os.environ.get("CI") else 20,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
test_the_bytes_that_a_user_wrote_are_always_safe = Life.TestCase
