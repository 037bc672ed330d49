"""Open files, and locks on them, that forked children do not share."""

from __future__ import annotations

import fcntl
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from provisioner.system.forks import Descriptor
from tests.support.children import Child


def locked(path: Path) -> Callable[[], int]:
    """Return a function that opens a file and locks it."""

    def opened() -> int:
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return number

    return opened


def is_locked(path: Path) -> bool:
    """Whether any process has the file locked."""
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def test_a_lock_ends_with_the_block_although_a_child_was_forked_in_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with Descriptor(locked(path)):
        child = Child(lambda: "up", stays=True)
    with child:
        assert child.said() == "up"
        assert not is_locked(path)


def test_the_parents_lock_outlives_the_child(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with Descriptor(locked(path)):
        with Child(lambda: "up") as child:
            assert child.said() == "up"
        assert is_locked(path)
    assert not is_locked(path)


def test_a_child_never_closes_another_file_of_the_same_number(tmp_path: Path) -> None:
    """In the child, too, the block that it was forked in comes to its end."""
    descriptor = Descriptor(locked(tmp_path / "lock"))
    number = descriptor.number

    def reuse_and_end() -> str:
        os.dup2(os.open(tmp_path / "other", os.O_WRONLY | os.O_CREAT), number)
        descriptor.close()
        os.write(number, b"written")
        return "written"

    with descriptor, Child(reuse_and_end) as child:
        assert child.said() == "written"


def test_a_started_process_that_is_passed_the_descriptor_keeps_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with Descriptor(locked(path)) as number:
        holder = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[number])
    assert is_locked(path)
    holder.communicate()
    assert not is_locked(path)


@pytest.mark.parametrize("preexec_fn", [None, os.getpid])
def test_a_descriptor_that_is_passed_on_is_kept_by_the_process_this_thread_starts_and_by_no_other(
    tmp_path: Path, preexec_fn: Callable[[], int] | None
) -> None:
    path = tmp_path / "lock"
    children: list[Child] = []
    with Descriptor(locked(path), is_passed_on=True) as number:
        fork = threading.Thread(target=lambda: children.append(Child(lambda: "up", stays=True)))
        fork.start()
        fork.join()
        holder = subprocess.Popen(
            ["cat"], stdin=subprocess.PIPE, pass_fds=[number], preexec_fn=preexec_fn
        )
    with children[0] as child:
        assert child.said() == "up"
        assert is_locked(path)
        holder.communicate()
        assert not is_locked(path)
