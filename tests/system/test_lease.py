"""The right to use a volume: a lock that processes inherit and that the OS frees."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.errors import Cancelled
from provisioner.system import lease as leases
from provisioner.system.lease import Holder, Lease, Purpose
from tests.support.children import Child
from tests.support.processes import kill, line_of, running, tell
from tests.support.threads import at_once

NOW = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)

TAKE = """
import sys, threading
from datetime import datetime, timezone
from pathlib import Path
from provisioner.system import lease
from provisioner.system.lease import Holder, Purpose
holder = Holder.this_process(Purpose.KERNEL, datetime.now(timezone.utc), "theirs")
taken = lease.take(Path(sys.argv[1]), holder, patience=lambda _: 0.0, cancel=threading.Event())
print("taken" if taken else "refused", flush=True)
"""

HOLD = "input()"

WRITTEN = Holder(1, "h", Purpose.KERNEL, NOW).to_json()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of a lease."""
    return tmp_path / "lease"


def take(path: Path, wait: float = 0.0) -> Lease | None:
    """Take a lease in this process."""
    holder = Holder.this_process(Purpose.KERNEL, NOW, "ours")
    return leases.take(path, holder, patience=lambda _: wait, cancel=threading.Event())


def taken(path: Path) -> Lease:
    """Take a lease that is free."""
    lease = take(path)
    assert lease is not None
    return lease


@pytest.fixture
def lease(path: Path) -> Iterator[Lease]:
    """A lease that this process holds."""
    lease = taken(path)
    yield lease
    lease.release()


# -- exclusive among processes -------------------------------------------------------------------------------------


def test_a_lease_is_taken_once(path: Path, lease: Lease) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert leases.is_held(path)
    assert take(path) is None
    with running(TAKE, str(path)) as other:
        assert line_of(other) == "refused"


def test_a_released_lease_is_free_at_once_and_names_no_holder(path: Path) -> None:
    taken(path).release()
    assert not leases.is_held(path)
    assert leases.holder_of(path) is None
    again = taken(path)
    assert again.previous is None
    again.release()
    again.release()


def test_a_lease_put_back_still_names_the_holder_that_was_killed(path: Path) -> None:
    killed = Holder.this_process(Purpose.KERNEL, NOW, "theirs")
    path.write_bytes(killed.to_json())
    taken(path).put_back()
    again = taken(path)
    assert again.previous == killed
    again.release()
    for _ in range(2):
        clean = taken(path)
        assert clean.previous is None
        clean.put_back()


def test_a_lease_that_cannot_be_read_is_not_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise OSError("input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("provisioner.system.lease.os.pread", fail)
        with pytest.raises(OSError, match="input/output"):
            take(path)
    assert not leases.is_held(path)
    taken(path).release()


def test_a_check_makes_no_file_and_takes_nothing(path: Path) -> None:
    assert not leases.is_held(path)
    assert leases.holder_of(path) is None
    assert not path.exists()


def test_many_checks_at_once_never_take_one_another_for_a_holder(path: Path) -> None:
    path.touch()
    seen: list[bool] = []

    def look() -> None:
        seen.extend(leases.is_held(path) for _ in range(300))

    at_once([look] * 8)
    assert not any(seen)


def test_a_check_never_prevents_an_acquire(path: Path) -> None:
    path.touch()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            leases.is_held(path)

    checker = threading.Thread(target=look)
    checker.start()
    try:
        for _ in range(200):
            lease = take(path)
            assert lease is not None
            lease.release()
    finally:
        over.set()
        checker.join()


# -- inherited -----------------------------------------------------------------------------------------------------


def test_a_process_that_inherited_the_lease_keeps_it_after_the_taker_closed_it(path: Path) -> None:
    lease = taken(path)
    with running(HOLD, pass_fds=(lease.fd,)) as child:
        lease.abandon()
        assert leases.is_held(path)
        assert take(path) is None
        tell(child)
        child.wait()
        again = take(path)
    assert again is not None
    again.release()


def test_a_process_that_did_not_inherit_the_lease_keeps_nothing(path: Path) -> None:
    lease = taken(path)
    with running(HOLD):
        lease.release()
        assert not leases.is_held(path)


def test_the_lease_of_killed_processes_is_free_at_once(path: Path) -> None:
    """The taker and the kernel that inherited it are both killed; the last to go frees it."""
    script = TAKE + (
        "import os, subprocess\n"
        "kernel = subprocess.Popen([sys.executable, '-c', 'input()'], pass_fds=(taken.fd,),\n"
        "                          stdin=subprocess.PIPE)\n"
        "print(kernel.pid, flush=True)\n"
        "input()\n"
    )
    with running(script, str(path)) as server:
        assert line_of(server) == "taken"
        kernel = int(line_of(server))
        kill(server)
        try:
            assert leases.is_held(path), "the kernel lives and must keep the lease"
        finally:
            os.kill(kernel, 9)
        deadline = time.monotonic() + 10
        while leases.is_held(path):
            assert time.monotonic() < deadline, "both are gone, yet the lease is held"
        again = taken(path)
    assert again.previous is not None, "it was never released, and that must show"
    assert again.previous.pid == server.pid
    assert again.previous.kernels == ("theirs",)
    again.release()


def test_a_forked_child_that_releases_the_lease_changes_nothing_for_the_parent(path: Path) -> None:
    lease = taken(path)
    with Child(lease.release) as child:
        assert child.said() == "None"
    assert leases.is_held(path)
    held = leases.holder_of(path)
    assert held is not None
    assert held.pid == os.getpid()
    lease.release()
    assert not leases.is_held(path)


def test_a_forked_child_that_lives_on_does_not_keep_the_lease(path: Path) -> None:
    lease = taken(path)
    with Child(lambda: lease.is_ours, stays=True) as child:
        assert child.said() == "False"
        assert leases.is_held(path)
        lease.release()
        assert not leases.is_held(path)


# -- waiting -------------------------------------------------------------------------------------------------------


def test_a_wait_ends_when_the_lease_is_free(path: Path, lease: Lease) -> None:
    timer = threading.Timer(0.1, lease.release)
    timer.start()
    waited = take(path, wait=30.0)
    timer.join()
    assert waited is not None
    waited.release()


def test_a_wait_can_be_cancelled(path: Path, lease: Lease) -> None:
    cancel = threading.Event()
    timer = threading.Timer(0.1, cancel.set)
    timer.start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        leases.take(path, lease.holder, patience=lambda _: 60.0, cancel=cancel)
    timer.join()
    assert time.monotonic() - began < 30


def test_patience_is_called_again_with_the_present_holder(path: Path, lease: Lease) -> None:
    asked: list[Holder | None] = []

    def patience(holder: Holder | None) -> float:
        asked.append(holder)
        return 0.0 if len(asked) > 3 else 60.0

    assert leases.take(path, lease.holder, patience=patience, cancel=threading.Event()) is None
    assert len(asked) > 3
    assert asked[0] == lease.holder


# -- the file ------------------------------------------------------------------------------------------------------


def test_a_waiter_for_a_removed_lease_gets_the_file_that_others_see(path: Path) -> None:
    for _ in range(50):
        lease = taken(path)
        got: list[Lease | None] = []
        waiter = threading.Thread(target=lambda got=got: got.append(take(path, wait=30.0)))
        waiter.start()
        leases.remove(lease)
        waiter.join()
        assert got[0] is not None
        assert os.path.samestat(os.fstat(got[0].fd), path.stat())
        got[0].release()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[1]",
        b'"text"',
        b"\xff\xfe\x00",
        b"[" * 60_000,
        b'{"pid": Infinity, "host": "h", "purpose": "kernel", "since": "2026-01-01", "kernels": []}',
        WRITTEN.replace(b"kernel", b"dance", 1),
        WRITTEN.replace(b"2026-03", b"0001-01").replace(b"+00:00", b"+14:00"),
        WRITTEN.replace(b"[]", b"null"),
    ],
    ids=lambda content: repr(content[:40]),
)
def test_only_the_lock_decides_whatever_the_file_contains(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert leases.holder_of(path) is None
    assert not leases.is_held(path)
    lease = taken(path)
    assert leases.holder_of(path) == lease.holder
    path.write_bytes(content)
    assert leases.is_held(path)
    lease.release()


@given(st.binary())
def test_any_content_is_read_without_an_error(content: bytes) -> None:
    assert Holder.from_json(content) is None or b'"purpose"' in content


@given(
    st.builds(
        Holder,
        pid=st.integers(1, 2**31),
        host=st.text(),
        purpose=st.sampled_from(Purpose),
        since=st.datetimes(timezones=st.just(timezone.utc), min_value=datetime(1970, 1, 2)),  # noqa: DTZ001 - with `timezones`
        kernels=st.lists(st.text()).map(tuple),
        processes=st.lists(st.integers(1, 2**31)).map(tuple),
    )
)
def test_a_holder_is_read_back_as_written(holder: Holder) -> None:
    assert Holder.from_json(holder.to_json()) == holder


def test_a_description_is_readable_at_any_instant_its_writer_is_killed(lease: Lease) -> None:
    """A shorter one overwrites a longer one: until the file is cut, the old end still stands there."""
    lease.describe(replace(lease.holder, kernels=("ours", "k" * 500)))
    shorter = leases.without_kernel(lease.holder, "k" * 500, None)
    os.pwrite(lease.fd, shorter.to_json(), 0)
    assert leases.holder_of(lease.path) == shorter


def test_a_lease_can_be_taken_on_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", fail)
    lease = taken(path)
    assert leases.is_held(path)
    lease.release()


# -- what people are told ------------------------------------------------------------------------------------------


def test_kernels_come_and_go_in_the_description(lease: Lease) -> None:
    lease.describe(replace(lease.holder, kernels=("ours", "second")))
    lease.describe(leases.without_kernel(lease.holder, "ours", None))
    held = leases.holder_of(lease.path)
    assert held is not None
    assert held.kernels == ("second",)
    assert json.loads(lease.path.read_bytes())["purpose"] == "kernel"


def test_a_holder_is_described_with_process_host_kernel_and_time() -> None:
    holder = Holder(4711, "hub-3", Purpose.KERNEL, NOW, ("k1", "k2"), (4712,))
    said = str(holder)
    for part in ("4711", "hub-3", "k1, k2", f"{NOW.astimezone():%Y-%m-%d %H:%M:%S}"):
        assert part in said
    left = str(Holder(4711, "hub-3", Purpose.LEFT_BEHIND, NOW, (), (4712, 4713)))
    assert "4712, 4713" in left


def test_a_request_for_the_lease_is_seen_until_it_is_withdrawn(path: Path) -> None:
    assert not leases.is_wanted(path)
    leases.want(path)
    leases.want(path)
    assert leases.is_wanted(path)
    leases.unwant(path)
    leases.unwant(path)
    assert not leases.is_wanted(path)


def test_only_work_that_can_be_repeated_yields_to_a_person() -> None:
    yields = {purpose for purpose in Purpose if purpose.yields}
    assert {Purpose.BACKUP, Purpose.PRUNE} <= yields
    assert yields.isdisjoint({Purpose.KERNEL, Purpose.SHELL, Purpose.RESTORE, Purpose.LEFT_BEHIND})
