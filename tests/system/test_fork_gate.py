"""The gate that a fork closes for a moment, by its hooks alone: no process is forked here."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from provisioner.system.forks import Gate
from tests.support.pools import wait_for
from tests.support.threads import Held, Pause

LONG = timedelta(seconds=60)


class Told:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.fails = False

    def before_fork(self) -> None:
        self.told.append("before")
        if self.fails:
            raise OSError("it cannot be put away")

    def after_fork_in_child(self) -> None:
        self.told.append("child")


@pytest.fixture
def gate() -> Gate:
    """A gate of which no real fork knows, and which waits for nobody."""
    return Gate(timedelta(0))


@pytest.fixture
def member(gate: Gate) -> Told:
    """What is to be put away."""
    member = Told()
    gate.join(member)
    return member


def inside(gate: Gate, member: Told | None = None) -> Held:
    """Return another thread that is at work inside."""

    def begin(pause: Pause) -> None:
        with gate.inside(member):
            pause()

    return Held(begin)


def test_a_fork_that_finds_nobody_inside_puts_all_away_and_the_child_is_whole(
    gate: Gate, member: Told
) -> None:
    gate.before_fork()
    assert member.told == ["before"]
    gate.after_fork_in_child()
    assert member.told == ["before", "child"]
    assert not gate.is_torn
    with gate.inside():
        pass


def test_what_is_worked_on_is_left_alone_and_the_child_is_torn(gate: Gate, member: Told) -> None:
    other = Told()
    gate.join(other)
    with inside(gate, member):
        gate.before_fork()
        assert (member.told, other.told) == ([], ["before"])
        gate.after_fork_in_child()
        assert gate.is_torn
        gate.before_fork()
        gate.after_fork_in_child()
        assert gate.is_torn, "and so are its own children"


def test_the_parent_of_a_torn_child_goes_on_and_its_next_child_is_whole(
    gate: Gate, member: Told
) -> None:
    with inside(gate, member) as thread:
        gate.before_fork()
        gate.after_fork_in_parent()
        thread.let_go()
    with inside(gate):
        pass
    gate.before_fork()
    gate.after_fork_in_child()
    assert not gate.is_torn


def test_nobody_gets_in_while_a_fork_is_made_and_all_do_after_it(gate: Gate) -> None:
    gate.before_fork()
    entered = threading.Event()

    def enter() -> None:
        with gate.inside():
            entered.set()

    thread = threading.Thread(target=enter)
    thread.start()
    assert not entered.wait(0.05)
    gate.after_fork_in_parent()
    thread.join()
    assert entered.is_set()


def test_a_fork_waits_for_those_inside_and_for_the_fork_of_another_thread(member: Told) -> None:
    gate = Gate(LONG)
    gate.join(member)
    forked = threading.Event()

    def fork() -> None:
        gate.before_fork()
        forked.set()
        gate.after_fork_in_parent()

    with inside(gate, member) as thread:
        forker = threading.Thread(target=fork)
        forker.start()
        assert not forked.wait(0.05)
        thread.let_go()
        forker.join()
    gate.before_fork()
    forked.clear()
    forker = threading.Thread(target=fork)
    forker.start()
    assert not forked.wait(0.05)
    gate.after_fork_in_parent()
    forker.join()
    assert forked.is_set()
    assert member.told == ["before"] * 3


def test_a_thread_that_is_inside_may_go_further_in_while_a_fork_waits_for_it(member: Told) -> None:
    gate = Gate(LONG)
    gate.join(member)

    def fork() -> None:
        gate.before_fork()
        gate.after_fork_in_parent()

    forker = threading.Thread(target=fork)
    with gate.inside(member):
        forker.start()
        wait_for(lambda: gate._closed_by is not None)
        with gate.inside(member):
            assert member.told == []
    forker.join()
    assert member.told == ["before"]


def test_a_thread_that_forks_while_it_is_inside_waits_for_nobody_and_its_child_is_torn(
    member: Told,
) -> None:
    gate = Gate(LONG)
    gate.join(member)
    with gate.inside(member):
        gate.before_fork()
        gate.after_fork_in_parent()
    assert member.told == []
    with gate.inside(member):
        gate.before_fork()
        gate.after_fork_in_child()
    assert gate.is_torn
    with gate.inside(member):
        pass


def test_a_fork_made_while_another_is_begun_by_the_same_thread_waits_for_nobody(
    gate: Gate, member: Told
) -> None:
    """As the handler of a signal may, which comes between the hooks of a fork and the fork."""
    gate.before_fork()
    gate.before_fork()
    gate.after_fork_in_parent()
    assert member.told == ["before"], "what was put away by the outer fork stays so"
    with pytest.raises(AssertionError), inside_at_once(gate):
        pass
    gate.after_fork_in_parent()
    with inside(gate):
        pass
    gate.before_fork()
    gate.before_fork()
    gate.after_fork_in_child()
    assert gate.is_torn


class inside_at_once:  # noqa: N801 - used as a statement
    """Another thread that goes in, and fails if it is not let in."""

    def __init__(self, gate: Gate) -> None:
        self._entered = threading.Event()
        self._gate = gate

    def __enter__(self) -> None:
        def enter() -> None:
            with self._gate.inside():
                self._entered.set()

        threading.Thread(target=enter, daemon=True).start()
        assert self._entered.wait(0.05)

    def __exit__(self, *_: object) -> None:
        pass


def test_a_child_is_torn_if_something_could_not_be_put_away_and_the_parent_goes_on(
    gate: Gate, member: Told
) -> None:
    member.fails = True
    with pytest.raises(OSError, match="put away"):
        gate.before_fork()
    gate.after_fork_in_parent()
    with inside(gate):
        pass
    with pytest.raises(OSError, match="put away"):
        gate.before_fork()
    gate.after_fork_in_child()
    assert gate.is_torn


def test_another_hook_of_the_same_fork_that_goes_in_is_let_in_and_the_child_is_torn(
    gate: Gate, member: Told
) -> None:
    gate.before_fork()
    with gate.inside(member):
        pass
    gate.after_fork_in_child()
    assert gate.is_torn
