from __future__ import annotations

import errno
import fcntl
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from threading import Event, Thread
from typing import Any, Literal

import pytest

from provisioner.core.errors import Cancelled, ConfigError, HydrationFailed
from provisioner.core.progress import StepProgress
from provisioner.hydration import journal
from provisioner.hydration.journal import StepStatus, examine
from provisioner.hydration.plan import plan
from provisioner.hydration.runner import Hydrated, StepReport, hydrate
from provisioner.hydration.step import Launch, Place
from provisioner.hydration.steps.command import BootstrapCommand
from provisioner.hydration.steps.overlay.step import Overlay
from provisioner.settings.options import KernelOptions
from tests.support.children import Child
from tests.support.nix_store import NixStore
from tests.support.starter import watch_points
from tests.support.starts import (
    Reported,
    make_place,
    processes_of,
    processes_started,
    run,
)
from tests.support.wheels import make_wheel

POINTS = 10


@dataclass(frozen=True)
class World:
    """A kernelspec with all kinds of steps, and a check of its environment."""

    store: NixStore
    launch: Launch
    options: KernelOptions
    uv_cache: Path
    folder: Path

    def run(self, place: Place, cancel: Event | None = None) -> Hydrated:
        """Hydrate in this process."""
        return run(plan(self.options, self.uv_cache), place, self.launch, cancel=cancel)

    def start(self, place: Place, **more: object) -> subprocess.Popen[str]:
        """Start a hydration in a process of its own."""
        path = self.folder / f"{place.volume.name}.json"
        request = {
            "volume": str(place.volume),
            "argv": self.launch.argv,
            "env": dict(self.launch.env),
            "uv_cache": str(self.uv_cache),
            "nix_profile": self.options.nix_profile,
            "requirements": self.options.requirements,
            "bootstrap_command": self.options.bootstrap_command,
        }
        path.write_text(json.dumps({**request, **more}))
        return subprocess.Popen(
            [sys.executable, "-m", "tests.support.starter", str(path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def assert_whole(self, place: Place, launch: Launch) -> None:
        """Assert that the environment works, that nothing unfinished is left, and that no process is running."""
        code = "import os, apple; print(os.environ['GREETING'], apple.VERSION, apple.__file__)"
        ran = subprocess.run(
            [launch.argv[0], "-c", code],
            env=dict(launch.env),
            check=True,
            capture_output=True,
            text=True,
        )
        greeting, version, file = ran.stdout.split()
        assert (greeting, version) == ("hello", "1.0")
        assert file.startswith(str(place.environment))
        assert (place.volume / "bootstrapped").read_text().endswith("apple 1.0\n")
        names = {path.name for path in place.state.iterdir()}
        assert names == {
            "env", "hydration.json", "hydration.lock", "hydration.log", "nix", "nix.json"
        }  # fmt: skip
        assert len(list((place.state / "nix").iterdir())) == 1
        with (place.state / "hydration.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert processes_of(self.launch.env["XDG_MARK"]) == []
        assert [root for root in self.store.temporary_roots() if str(place.volume) in root] == []


@pytest.fixture
def world(nix: tuple[NixStore, Launch], uv_launch: Launch, uv_cache: Path, tmp_path: Path) -> World:
    store, nix_launch = nix
    shop = tmp_path / "shop"
    make_wheel(shop, "apple", "1.0")
    make_wheel(shop, "pip", "99")  # compiling the real one takes a second, forty times
    links = ",".join(filter(None, [uv_launch.env.get("UV_FIND_LINKS"), str(shop)]))
    env = {**uv_launch.env, **nix_launch.env, "UV_FIND_LINKS": links, "XDG_MARK": str(tmp_path)}
    return World(
        store=store,
        launch=Launch(("python3", "-m", "apple"), env),
        options=KernelOptions().having(
            nix_profile=str(store.flake(tmp_path / "flake", hook="export HOOKED=1")),
            requirements=["apple==1.0"],
            bootstrap_command=["bash", "-c", 'test "$HOOKED" && apple >> bootstrapped'],
        ),
        uv_cache=uv_cache,
        folder=tmp_path,
    )


def test_nix_python_and_bootstrap_compose_and_a_second_start_starts_nothing(
    world: World, place: Place
) -> None:
    steps = plan(world.options, world.uv_cache)
    first = run(steps, place, world.launch)
    assert [report.name for report in first.report] == ["nix", "uv", "bootstrap"]
    assert not any(report.hit for report in first.report)
    with processes_started() as started:
        second = run(steps, place, world.launch)
    assert started == []
    assert all(report.hit for report in second.report)
    assert second.launch == first.launch
    world.assert_whole(place, second.launch)


def test_of_four_simultaneous_starts_one_hydrates_and_all_get_the_environment(
    world: World, place: Place
) -> None:
    starts = [world.start(place) for _ in range(4)]
    reports = [json.loads(start.communicate(timeout=120)[0]) for start in starts]
    hits = sorted(tuple(report["hits"]) for report in reports)
    assert hits == [(False, False, False), *[(True, True, True)] * 3]
    assert (place.volume / "bootstrapped").read_text() == "apple 1.0\n"
    for report in reports:
        world.assert_whole(place, Launch(tuple(report["argv"]), report["env"]))


def test_after_a_kill_at_any_point_the_next_start_completes_the_hydration(
    world: World, tmp_path: Path
) -> None:
    untouched = make_place(tmp_path / "untouched")
    points = json.loads(world.start(untouched).communicate(timeout=120)[0])["points"]
    assert points >= POINTS
    for number in range(POINTS):
        place = make_place(tmp_path / f"killed{number}")
        kill_at = 1 + number * (points - 1) // (POINTS - 1)
        killed = world.start(place, kill_at=kill_at)
        killed.communicate(timeout=120)
        assert killed.returncode == -9, f"point {kill_at} of {points}"
        world.assert_whole(place, world.run(place).launch)
        assert all(report.hit for report in world.run(place).report)


def test_after_a_kill_during_a_change_the_next_start_has_the_complete_new_environment(
    world: World, tmp_path: Path
) -> None:
    make_wheel(tmp_path / "shop", "apple", "0.5")
    old = world.options.having(requirements=["apple==0.5"], bootstrap_command=[])

    def changed(name: str, **more: object) -> tuple[Place, subprocess.Popen[str]]:
        place = make_place(tmp_path / name)
        run(plan(old, world.uv_cache), place, world.launch)
        return place, world.start(place, **more)

    points = json.loads(changed("untouched")[1].communicate(timeout=120)[0])["points"]
    for number in range(4):
        kill_at = points - 14 * number  # the renames come last
        place, killed = changed(f"changed{number}", kill_at=kill_at)
        killed.communicate(timeout=120)
        assert killed.returncode == -9
        world.assert_whole(place, world.run(place).launch)


def test_after_a_cancel_at_any_point_the_next_start_completes_the_hydration(
    world: World, tmp_path: Path
) -> None:
    collected: list[int] = []
    here: dict[str, Any] = {"cancel_at": None, "cancel": Event()}

    def at(point: int) -> None:
        collected.append(point)
        if here["cancel_at"] is not None and len(collected) == here["cancel_at"]:
            here["cancel"].set()

    watch_points(tmp_path, at)
    world.run(make_place(tmp_path / "untouched"))
    points = len(collected)
    assert points >= POINTS
    for number in range(POINTS):
        place = make_place(tmp_path / f"cancelled{number}")
        collected.clear()
        # The last process has ended before the last few points; after that, a cancel has no effect.
        here.update(cancel_at=1 + number * (points - 12) // (POINTS - 1), cancel=Event())
        with pytest.raises(Cancelled):
            world.run(place, cancel=here["cancel"])
        assert processes_of(world.launch.env["XDG_MARK"]) == []
        here["cancel_at"] = None
        world.assert_whole(place, world.run(place).launch)


def test_a_start_that_waits_for_another_can_be_cancelled(place: Place, launch: Launch) -> None:
    begun, done, reported, cancel = Event(), Event(), Reported(), Event()

    def slow() -> None:
        begun.set()
        done.wait(60)

    def stop(step: str, message: str, fraction: float | None = None) -> None:
        reported(step, message)
        cancel.set()

    first = Thread(target=run, args=([Recorder(do=slow)], place, launch))
    first.start()
    try:
        assert begun.wait(60)
        with pytest.raises(Cancelled):
            run([Recorder()], place, launch, progress=stop, cancel=cancel)
        assert "waiting for another start" in reported.text
    finally:
        done.set()
        first.join()


class Recorder:
    """A step that counts its hydrations, and may do something in each."""

    name = "recorder"

    def __init__(self, key: str = "1", do: Callable[[], object] = lambda: None) -> None:
        self._key = key
        self._do = do
        self.hydrated = 0

    def key(self, place: Place, launch: Launch) -> str:
        return self._key

    def intact(self, place: Place, launch: Launch) -> bool:
        return True

    def hydrate(self, place: Place, launch: Launch, progress: StepProgress, cancel: Event) -> None:
        self.hydrated += 1
        self._do()

    def environment(self, place: Place, launch: Launch) -> Launch:
        return launch


def test_a_child_forked_during_a_hydration_does_not_block_another_start(
    place: Place, launch: Launch
) -> None:
    children: list[Child] = []
    cancel = Event()
    cancel.set()  # a start that has to wait raises Cancelled at once
    forks = Recorder(do=lambda: children.append(Child(lambda: "up", stays=True)))
    run([forks], place, launch)
    with children[0] as child:
        assert child.said() == "up"
        with pytest.raises(Cancelled) as cancelled:
            run([Recorder("2")], place, launch, cancel=cancel)
        assert "while another start" not in str(cancelled.value)
        run([Recorder("2")], place, launch)


class Sets(Recorder):
    """A step that sets a variable."""

    name = "sets"

    def environment(self, place: Place, launch: Launch) -> Launch:
        return replace(launch, env={**launch.env, "VALUE": self._key})


class Needs(Recorder):
    """A step whose key is a variable that an earlier step sets."""

    name = "needs"

    def key(self, place: Place, launch: Launch) -> str:
        return launch.env["VALUE"]


def test_changed_inputs_are_reported_before_the_step_is_hydrated_again(
    place: Place, launch: Launch
) -> None:
    reported = Reported()
    for command in ("one", "two"):
        run([BootstrapCommand(("echo", command))], place, launch, progress=reported)
    changed = "bootstrap: bootstrap_command changed; hydrating again"
    assert reported.lines.index(changed) < reported.lines.index("bootstrap: two")
    assert reported.lines.count(changed) == 1


def test_the_journal_has_the_time_at_which_a_step_was_completed(
    place: Place, launch: Launch
) -> None:
    moments = iter([datetime(2026, 3, 1, 12, tzinfo=timezone.utc)])
    for _ in range(2):  # the second time it is a hit, and the time stays
        hydrate(
            [Recorder()],
            place,
            launch,
            repeat="jupyter volumes hydrate s",
            progress=Reported(),
            cancel=Event(),
            now=lambda: next(moments),
        )
        (state,) = examine([Recorder()], place, launch)
        assert state.status is StepStatus.FRESH
        assert state.at == datetime(2026, 3, 1, 12, tzinfo=timezone.utc)


def test_each_step_is_examined_inside_the_environment_of_the_steps_before_it(
    place: Place, launch: Launch
) -> None:
    steps = [Sets("one"), Needs("one")]
    run(steps, place, launch)
    assert [state.status for state in examine(steps, place, launch)] == [StepStatus.FRESH] * 2
    steps = [Sets("two"), Needs("two")]
    states = list(examine(steps, place, launch))
    assert [state.status for state in states] == [StepStatus.CHANGED] * 2
    assert [state.changed for state in states] == [(), ()], "these steps name no inputs"


def test_a_step_that_does_not_last_is_hydrated_again_after_another_kernelspec_hydrated_it(
    place: Place, launch: Launch
) -> None:
    """Such a step may have destroyed what it made for the other kernelspec's inputs."""
    steps = {name: Recorder(name) for name in ("one", "two")}
    for name, step in [*steps.items()] * 2:
        run([step], replace(place, kernelspec=name), launch)
    assert [step.hydrated for step in steps.values()] == [2, 2]


def test_alternating_starts_of_two_kernelspecs_hydrate_each_overlay_once(
    place: Place, launch: Launch, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", other], check=True)
    pythons = {"one": launch.argv[0], "two": str(other / "bin" / "python")}
    reports: list[StepReport] = []
    for name, python in [*pythons.items()] * 2:
        here = replace(place, kernelspec=name)
        reports += run([Overlay()], here, replace(launch, argv=(python, "-c", "0"))).report
    assert [report.hit for report in reports] == [False, False, True, True]


@pytest.mark.parametrize("kind", ["full", "broken"])
def test_a_volume_that_cannot_be_written_is_reported_in_one_line(
    place: Place, launch: Launch, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if kind == "full":
        monkeypatch.setattr(journal, "write_record", full)
    else:
        (place.state / "hydration.lock").mkdir()
    with pytest.raises(HydrationFailed, match="could not be written") as refusal:
        run([Recorder()], place, launch)
    assert "repeat it: jupyter volumes hydrate" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_step_that_finds_the_disk_full_keeps_what_was_recorded(
    place: Place, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    run([Recorder()], place, launch)
    monkeypatch.setattr(Recorder, "hydrate", full)
    with pytest.raises(HydrationFailed, match="could not be written") as refusal:
        run([Recorder()], place, launch, force=True)
    assert "repeat it: jupyter volumes hydrate" in str(refusal.value)
    (state,) = examine([Recorder()], place, launch)
    assert state.status is StepStatus.FRESH


def test_force_hydrates_what_is_up_to_date(place: Place, launch: Launch) -> None:
    step = Recorder()
    for force in (False, False, True):
        run([step], place, launch, force=force)
    assert step.hydrated == 2


def test_a_failure_names_the_command_that_repeats_it(place: Place, launch: Launch) -> None:
    with pytest.raises(HydrationFailed, match=r"\(to repeat it: jupyter volumes warm mine\)"):
        hydrate(
            [BootstrapCommand(("false",))],
            place,
            launch,
            repeat="jupyter volumes warm mine",
            progress=Reported(),
            cancel=Event(),
        )


def test_progress_and_failures_of_steps_contain_no_logins(place: Place, launch: Launch) -> None:
    address, reported = "git+https://me:hush@127.0.0.1/flake", Reported()

    class Telling(Recorder):
        stale: Literal["fail", "warn"] = "warn"
        fails = False

        def hydrate(
            self, place: Place, launch: Launch, progress: StepProgress, cancel: Event
        ) -> None:
            progress("recorder", f"evaluating {address}")
            if self.fails:
                raise HydrationFailed(f"{address} cannot be reached: try again")

    step = Telling()
    run([step], place, launch, progress=reported)
    step.fails = True
    (warned,) = run([step], place, launch, progress=reported, force=True).report
    step.stale = "fail"
    with pytest.raises(HydrationFailed) as failure:
        run([step], place, launch, progress=reported, force=True)
    for said in (reported.text, warned.warning, str(failure.value)):
        assert "git+https://…@127.0.0.1/flake" in said
        assert "hush" not in said


def test_a_step_whose_key_fails_reports_the_failure_of_its_hydration(
    place: Place, launch: Launch
) -> None:
    class Broken(Recorder):
        def key(self, place: Place, launch: Launch) -> str:
            raise HydrationFailed("there is no interpreter: install one")

    with pytest.raises(HydrationFailed, match=r"no interpreter.*jupyter volumes hydrate"):
        run([Broken()], place, launch)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"recorder": 5}', '{"recorder": {"key": []}}'])
def test_a_damaged_journal_entry_is_no_hit(place: Place, launch: Launch, text: str) -> None:
    run([Recorder()], place, launch)
    place.record("hydration").write_text(text)
    step = Recorder()
    run([step], place, launch)
    assert step.hydrated == 1


@pytest.mark.usefixtures("example_package")
def test_another_package_adds_a_step(place: Place, launch: Launch) -> None:
    options = KernelOptions().having(overlay=False, further={"example_data": "1, 2"})
    hydrated = run(plan(options, place.state), place, launch)
    assert Path(hydrated.launch.env["DATA"]).read_text() == "1, 2"
    assert run(plan(options, place.state), place, launch).report[0].hit
    (place.volume / "data.txt").unlink()
    assert not run(plan(options, place.state), place, launch).report[0].hit


@pytest.mark.usefixtures("example_package")
@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"example_data": 5}, "in quotes"),
        ({"example_nothing": 5}, "no attribute 'name'"),
        ({"no_such_option": 5}, "no installed package knows"),
    ],
)
def test_unknown_options_and_refused_values_fail_in_one_line(
    tmp_path: Path, extra: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        plan(KernelOptions().having(overlay=False, further=extra), tmp_path)


def test_an_overlay_is_made_unless_an_environment_is_declared(place: Place, launch: Launch) -> None:
    options = KernelOptions().having(bootstrap_command=["python", "-c", "open('made', 'w')"])
    first = run(plan(options, place.state), place, launch)
    assert [report.name for report in first.report] == ["overlay", "bootstrap"]
    assert (place.volume / "made").exists()
    with processes_started() as started:
        second = run(plan(options, place.state), place, launch)
    assert (started, second.launch) == ([], first.launch)


def test_the_order_is_nix_python_bootstrap(tmp_path: Path) -> None:
    def names_of(options: KernelOptions) -> list[str]:
        return [step.name for step in plan(options, tmp_path)]

    options = KernelOptions().having(nix_profile="nixpkgs#hello", bootstrap_command=["true"])
    assert names_of(options) == ["nix", "overlay", "bootstrap"]
    assert names_of(options.having(overlay=False)) == ["nix", "bootstrap"]
    assert names_of(options.having(requirements=["a"])) == ["nix", "uv", "bootstrap"]
    assert names_of(options.having(requirements="r.txt")) == ["nix", "uv", "bootstrap"]
    assert names_of(options.having(pyproject=".")) == ["nix", "uv", "bootstrap"]
    with pytest.raises(ConfigError, match="keep one"):
        plan(options.having(pyproject=".", requirements=[]), tmp_path)
