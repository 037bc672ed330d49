"""Locks on files: exclusive, shared, waited for, and on the file that others see."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from provisioner.system.locks import lock, try_lock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that does not exist yet."""
    return tmp_path / "lock"


def test_a_lock_excludes_others_until_it_is_closed(path: Path) -> None:
    first = try_lock(path)
    assert first is not None
    assert try_lock(path) is None
    assert try_lock(path, shared=True) is None
    first.close()
    second = try_lock(path)
    assert second is not None
    second.close()


def test_shared_locks_exclude_only_an_exclusive_one(path: Path) -> None:
    first, second = try_lock(path, shared=True), try_lock(path, shared=True)
    assert first is not None
    assert second is not None
    with first, second:
        assert try_lock(path) is None


def test_a_file_deleted_and_made_anew_is_locked_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted = [path]
    flock = os.open

    def open_and_lose(*arguments: object) -> int:
        descriptor = flock(*arguments)  # type: ignore[arg-type]
        if deleted:
            deleted.pop().unlink()
        return descriptor

    monkeypatch.setattr(os, "open", open_and_lose)
    with try_lock(path) or pytest.fail("it is free") as number:
        assert os.path.samestat(os.fstat(number), path.stat())


def test_a_wait_ends_when_the_other_lock_is_closed(path: Path) -> None:
    other = try_lock(path)
    assert other is not None
    waits: list[float] = []

    def pause(waited: float) -> None:
        waits.append(waited)
        if len(waits) == 3:
            other.close()

    with lock(path, pause):
        assert try_lock(path) is None
    assert waits == sorted(waits)
    assert len(waits) == 3


def test_the_caller_can_end_the_wait_and_holds_nothing(path: Path) -> None:
    def pause(waited: float) -> None:
        raise TimeoutError

    with try_lock(path) or pytest.fail("it is free"), pytest.raises(TimeoutError):
        lock(path, pause)
    with lock(path, pause):
        pass


def test_neither_a_link_is_followed_nor_a_pipe_waited_for(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        try_lock(path)
    assert not (tmp_path / "elsewhere").exists()
    os.mkfifo(tmp_path / "pipe")
    opened = threading.Thread(target=lambda: try_lock(tmp_path / "pipe", os.O_RDONLY))
    opened.start()
    opened.join(10)
    assert not opened.is_alive()
