"""When idle kernels are shut down: each boundary, with a clock that only the tests move."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from provisioner.server.culling.decision import (
    Cull,
    KernelState,
    Memory,
    NotebookLimit,
    Phase,
    Rules,
    Warn,
    Withdraw,
    cull_due,
    decide,
    idle_limit,
)

NOON = datetime(2024, 5, 1, 12, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
TICK = timedelta(microseconds=1)
RULES = Rules(warning=5 * MINUTE)
IDLE = KernelState("k", Phase.IDLE, last_activity=NOON, limit=HOUR)


def run(
    state: KernelState | None, *times: datetime, rules: Rules = RULES, memory: Memory | None = None
) -> tuple[list[object], Memory]:
    """Decide at each of the times; return all actions and the memory."""
    memory = memory or Memory()
    done: list[object] = []
    for now in times:
        decision = decide([] if state is None else [state], memory, rules, now)
        done += decision.actions
        memory = decision.memory
    return done, memory


def minutes(first: int, last: int) -> list[datetime]:
    return [NOON + n * MINUTE for n in range(first, last + 1)]


CULLED = [Warn("k", NOON + HOUR), Cull("k", NOON, HOUR)]


@pytest.mark.parametrize(
    ("state", "rules", "expected"),
    [
        pytest.param(IDLE, RULES, CULLED, id="idle"),
        pytest.param(replace(IDLE, phase=Phase.BUSY), RULES, [], id="busy"),
        pytest.param(replace(IDLE, phase=Phase.PENDING), RULES, [], id="pending or hydrating"),
        pytest.param(replace(IDLE, connections=1), RULES, [], id="open in a front end"),
        pytest.param(
            replace(IDLE, connections=1),
            replace(RULES, cull_connected=True),
            CULLED,
            id="open in a front end, cull_connected",
        ),
        pytest.param(replace(IDLE, is_spared=True), RULES, [], id="spared"),
        pytest.param(replace(IDLE, limit=None), RULES, [], id="never"),
        pytest.param(
            IDLE, replace(RULES, warning=None), [Cull("k", NOON, HOUR)], id="without warning"
        ),
        pytest.param(replace(IDLE, phase=Phase.STARTING), RULES, CULLED, id="hangs while starting"),
        pytest.param(
            replace(IDLE, phase=Phase.STARTING),
            replace(RULES, start_time=2 * HOUR),
            [],
            id="starting",
        ),
    ],
)
def test_a_kernel_is_culled_only_if_nothing_spares_it(
    state: KernelState, rules: Rules, expected: list[object]
) -> None:
    assert run(state, *minutes(0, 60), rules=rules)[0] == expected


def test_a_kernel_is_culled_exactly_at_its_limit_and_not_an_instant_before() -> None:
    _, warned = run(IDLE, NOON + 55 * MINUTE)
    assert run(IDLE, NOON + HOUR - TICK, memory=warned)[0] == []
    assert run(IDLE, NOON + HOUR, memory=warned)[0] == [Cull("k", NOON, HOUR)]


def test_the_warning_comes_exactly_its_time_before_the_limit() -> None:
    assert run(IDLE, NOON + 55 * MINUTE - TICK)[0] == []
    assert run(IDLE, NOON + 55 * MINUTE)[0] == [Warn("k", NOON + HOUR)]


def test_the_next_check_is_at_the_warning_and_then_at_the_cull() -> None:
    first = decide([IDLE], Memory(), RULES, NOON)
    assert first.next_check == NOON + 55 * MINUTE
    second = decide([IDLE], first.memory, replace(RULES, gap=HOUR), first.next_check)
    assert second.next_check == NOON + HOUR
    assert decide([replace(IDLE, limit=None)], Memory(), RULES, NOON).next_check is None


def test_a_limit_shorter_than_the_warning_leaves_half_of_it_for_the_warning() -> None:
    short = replace(IDLE, limit=4 * MINUTE)
    assert run(short, NOON + 2 * MINUTE - TICK)[0] == []
    assert run(short, NOON + 2 * MINUTE)[0] == [Warn("k", NOON + 4 * MINUTE)]


def test_a_late_check_still_gives_the_whole_warning() -> None:
    late = NOON + 3 * HOUR
    done, memory = run(IDLE, late)
    assert done == [Warn("k", late + 5 * MINUTE)]
    assert run(IDLE, late + 5 * MINUTE - TICK, memory=memory)[0] == []
    assert run(IDLE, late + 5 * MINUTE, memory=memory)[0] == [
        Cull("k", NOON, 3 * HOUR + 5 * MINUTE)
    ]


def test_a_machine_that_slept_warns_again_before_it_culls() -> None:
    _, warned = run(IDLE, NOON + 56 * MINUTE)
    woke = NOON + 9 * HOUR
    assert run(IDLE, woke, memory=warned)[0] == [Warn("k", woke + 5 * MINUTE)]


def test_activity_after_the_warning_withdraws_it_and_starts_the_time_again() -> None:
    _, warned = run(IDLE, NOON + 56 * MINUTE)
    active = replace(IDLE, last_activity=NOON + 57 * MINUTE)
    done, memory = run(active, NOON + 58 * MINUTE, memory=warned)
    assert done == [Withdraw("k")]
    assert run(active, *minutes(59, 111), memory=memory)[0] == []
    assert run(active, NOON + 112 * MINUTE, memory=memory)[0] == [Warn("k", NOON + 117 * MINUTE)]


@pytest.mark.parametrize(
    "spared",
    [
        replace(IDLE, phase=Phase.BUSY),
        replace(IDLE, phase=Phase.PENDING),
        replace(IDLE, connections=2),
        replace(IDLE, is_spared=True),
        replace(IDLE, limit=None),
    ],
)
def test_a_warned_kernel_that_is_spared_has_its_warning_withdrawn_once(spared: KernelState) -> None:
    _, warned = run(IDLE, NOON + 56 * MINUTE)
    assert run(spared, *minutes(57, 70), memory=warned)[0] == [Withdraw("k")]


def test_a_kernel_that_replaced_a_warned_one_is_not_culled() -> None:
    _, warned = run(IDLE, NOON + 56 * MINUTE)
    replaced = replace(IDLE, last_activity=NOON + 59 * MINUTE, phase=Phase.STARTING)
    done, _ = run(replaced, NOON + HOUR, memory=warned)
    assert done == [Withdraw("k")]


def test_a_kernel_that_has_ended_is_forgotten() -> None:
    _, warned = run(IDLE, NOON + 56 * MINUTE)
    done, memory = run(None, NOON + 57 * MINUTE, memory=warned)
    assert (done, dict(memory.warned)) == ([], {})


def test_a_clock_that_goes_backwards_culls_nothing_and_keeps_the_warning() -> None:
    _, warned = run(IDLE, NOON + 56 * MINUTE)
    back = [NOON - HOUR, NOON - 58 * MINUTE, NOON - 55 * MINUTE]
    done, memory = run(IDLE, *back, memory=warned)
    assert done == []
    assert memory.warned == warned.warned


def test_activity_in_the_future_counts_as_now_and_not_as_idle() -> None:
    future = replace(IDLE, last_activity=NOON + 2 * HOUR)
    assert run(future, *minutes(0, 60))[0] == []


@pytest.mark.parametrize(
    ("policy", "notebook", "longest", "expected"),
    [
        (HOUR, None, None, HOUR),
        (None, None, MINUTE, None),
        (HOUR, NotebookLimit(MINUTE), None, MINUTE),
        (MINUTE, NotebookLimit(HOUR), None, HOUR),
        (MINUTE, NotebookLimit(2 * HOUR), HOUR, HOUR),
        (MINUTE, NotebookLimit(HOUR), HOUR, HOUR),
        (HOUR, NotebookLimit(None), None, None),
        (MINUTE, NotebookLimit(None), HOUR, HOUR),
        (None, NotebookLimit(MINUTE), HOUR, MINUTE),
    ],
)
def test_a_notebooks_limit_counts_up_to_the_administrators(
    policy: timedelta | None,
    notebook: NotebookLimit | None,
    longest: timedelta | None,
    expected: timedelta | None,
) -> None:
    assert idle_limit(policy, notebook, longest) == expected


def test_the_time_shown_is_the_time_of_the_cull() -> None:
    assert cull_due(IDLE, RULES) == NOON + HOUR
    assert cull_due(replace(IDLE, phase=Phase.BUSY), RULES) is None


class Crowd:
    """Fifty kernels and how they are used, minute by minute."""

    limit = 10 * MINUTE
    rules = Rules(warning=3 * MINUTE)

    def __init__(self) -> None:
        self.states = {
            f"k{n}": KernelState(f"k{n}", Phase.IDLE, NOON, self.limit) for n in range(50)
        }
        for n in range(10, 20):
            self.change(f"k{n}", phase=Phase.BUSY)
        for n in range(20, 30):
            self.change(f"k{n}", connections=1)

    def change(self, kernel: str, **values: object) -> None:
        self.states[kernel] = replace(self.states[kernel], **values)  # type: ignore[arg-type]  # fields by name

    def live(self, now: datetime) -> None:
        """Kernels 30 to 39 are used every four minutes; 40 to 49 until the sixth minute."""
        minute = (now - NOON) // MINUTE
        for n in range(30, 40):
            if minute % 4 == 0:
                self.change(f"k{n}", last_activity=now)
        for n in range(40, 50):
            if minute <= 6 and f"k{n}" in self.states:
                self.change(f"k{n}", last_activity=now)


def test_in_twenty_minutes_exactly_the_idle_ones_of_fifty_kernels_are_culled_after_one_warning() -> (
    None
):
    crowd, memory = Crowd(), Memory()
    warned: dict[str, datetime] = {}
    culled: dict[str, datetime] = {}
    withdrawn = []
    for now in minutes(0, 20):
        crowd.live(now)
        if now == NOON + 9 * MINUTE:
            crowd.change("k7", last_activity=now)  # a user pressed "keep running"
        decision = decide(crowd.states.values(), memory, Crowd.rules, now)
        memory = decision.memory
        for action in decision.actions:
            if isinstance(action, Warn):
                assert action.kernel == "k7" or action.kernel not in warned
                warned[action.kernel] = now
            elif isinstance(action, Cull):
                assert warned[action.kernel] <= now - Crowd.rules.warning  # type: ignore[operator]  # it is set
                assert crowd.states.pop(action.kernel).phase is Phase.IDLE
                culled[action.kernel] = now
            else:
                withdrawn.append(action.kernel)
    always_idle = {f"k{n}" for n in range(10)}
    idle_later = {f"k{n}" for n in range(40, 50)}
    assert {k for k, at in culled.items() if at == NOON + 10 * MINUTE} == always_idle - {"k7"}
    assert {k for k, at in culled.items() if at == NOON + 16 * MINUTE} == idle_later
    assert culled["k7"] == NOON + 19 * MINUTE
    assert set(culled) == always_idle | idle_later
    assert withdrawn == ["k7"]
    assert set(warned) == set(culled)
