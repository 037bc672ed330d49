"""What a volume says of itself: always whole, always the newest, and nothing beside it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from provisioner.pool.pool import Pool
from provisioner.system import layout, volume_record
from provisioner.system.volume_record import VolumeRecord
from tests.support.children import Child
from tests.support.pools import acquire, rename
from tests.support.tables import NOW
from tests.support.threads import Held, Pause


def names_in(state: Path) -> list[str]:
    """Return the names of the files beside a volume's record, and its own."""
    return sorted(os.listdir(state))


def test_what_a_killed_writer_left_is_removed_by_the_next(pool: Pool) -> None:
    acquired = acquire(pool)
    pool.release(acquired)

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def write_and_die() -> None:
        Path.replace = die  # type: ignore[method-assign,assignment]  # of this child alone, which ends here
        pool.catalog.pin(acquired.record.id, True)

    for count in (1, 1):
        with Child(write_and_die) as child:
            assert child.said() == ""
        names = names_in(acquired.path / ".volume")
        assert len([name for name in names if name.endswith(".new")]) == count, names
    pool.release(acquire(pool))
    assert names_in(acquired.path / ".volume") == ["record.json"]


def test_what_is_being_written_is_never_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout.make(tmp_path / "v")
    state = layout.state_directory(tmp_path / "v")
    replace = Path.replace

    def write(number: int) -> None:
        record = VolumeRecord("v", "a", "python3", number, NOW)
        volume_record.write(tmp_path / "v", lambda: record)

    def write_slowly(pause: Pause) -> None:
        def replace_slowly(self: Path, target: Any) -> Path:
            pause()
            return replace(self, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", replace_slowly)
            write(1)

    monkeypatch.setattr(volume_record, "_PATIENCE", timedelta(0))
    with Held(write_slowly) as writer:
        (written,) = names_in(state)
        with pytest.raises(TimeoutError, match="another process"):
            write(2)
        assert names_in(state) == [written]
        writer.let_go()
        assert writer.error is None
    assert names_in(state) == ["record.json"]
    read = volume_record.read(tmp_path / "v")
    assert read is not None
    assert read.generation == 1


def test_whoever_writes_last_writes_what_the_table_says(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquired = acquire(pool)
    write_record = volume_record.write

    def rename_slowly(pause: Pause) -> None:
        def write_slowly(*arguments: Any) -> None:
            pause()
            write_record(*arguments)

        monkeypatch.setattr(volume_record, "write", write_slowly)
        rename(pool, "a", "first")

    with Held(rename_slowly) as slow:
        monkeypatch.setattr(volume_record, "write", write_record)
        assert rename(pool, "first", "second") is not None
        slow.let_go()
    own = volume_record.read(acquired.path)
    assert own is not None
    assert own.session == "second"
    pool.release(acquired)


def test_a_kernel_that_locks_its_volumes_record_keeps_nobody_out(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    acquired = acquire(pool)
    pool.release(acquired)
    monkeypatch.setattr(volume_record, "_PATIENCE", timedelta(0))
    fd = os.open(acquired.path / ".volume", os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        pool.release(acquire(pool))
    finally:
        os.close(fd)
    assert any("could not be written" in message for message in caplog.messages)
    pool.release(acquire(pool))
    own = json.loads((acquired.path / ".volume" / "record.json").read_bytes())
    assert own["generation"] == 3


def test_a_record_that_cannot_be_written_leaves_the_older_one_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout.make(tmp_path / "v")
    first, second = (VolumeRecord("v", name, "python3", 1, NOW) for name in "ab")
    volume_record.write(tmp_path / "v", lambda: first)

    def fail(self: Path, target: Any) -> Path:
        raise OSError("input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="input/output"):
            volume_record.write(tmp_path / "v", lambda: second)
    assert volume_record.read(tmp_path / "v") == first
    assert names_in(layout.state_directory(tmp_path / "v")) == ["record.json"]


def test_a_record_is_not_read_through_a_link(tmp_path: Path) -> None:
    layout.make(tmp_path / "v")
    elsewhere = tmp_path / "elsewhere"
    volume_record.write(tmp_path / "v", lambda: VolumeRecord("v", "a", "python3", 1, NOW))
    own = layout.state_directory(tmp_path / "v") / "record.json"
    own.rename(elsewhere)
    own.symlink_to(elsewhere)
    assert volume_record.read(tmp_path / "v") is None
