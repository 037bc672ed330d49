from __future__ import annotations

import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Event

import pytest

from provisioner.core.errors import Cancelled, ConfigError, HydrationFailed
from provisioner.hydration.step import Launch, Place
from provisioner.hydration.steps.command import BootstrapCommand
from tests.support.starts import Reported, make_place, processes_of, processes_started, run


def bash(script: str, timeout: timedelta | None = None) -> list[BootstrapCommand]:
    return [BootstrapCommand(("bash", "-c", script), timeout)]


def test_a_command_is_run_once_per_volume_and_again_when_it_changes(
    place: Place, launch: Launch, tmp_path: Path
) -> None:
    once = bash("echo run >> runs")
    for _ in range(3):
        assert run(once, place, launch).launch == launch
    assert (place.volume / "runs").read_text() == "run\n"
    with processes_started() as started:
        run(once, place, launch)
    assert started == []
    changed = run(bash("echo again >> runs"), place, launch)
    assert changed.report[0].changed == ("bootstrap_command",)
    assert (place.volume / "runs").read_text() == "run\nagain\n"
    other = make_place(tmp_path / "other")
    run(once, other, launch)
    assert (other.volume / "runs").exists()


def test_kernelspecs_that_share_a_volume_each_have_their_command_run_once(
    place: Place, launch: Launch
) -> None:
    declared = {
        "one": bash("echo one >> runs"),
        "two": bash("echo two >> runs"),
        "three": bash("echo one >> runs"),
    }
    for kernelspec, steps in [*declared.items()] * 2:
        hydrated = run(steps, replace(place, kernelspec=kernelspec), launch)
        assert hydrated.report[0].changed == (), (
            "another kernelspec's command is not its earlier one"
        )
    assert (place.volume / "runs").read_text() == "one\ntwo\n"
    for name, script in (("one", "echo new >> runs"), ("one", "echo one >> runs")):
        run(bash(script), replace(place, kernelspec=name), launch)
    assert (place.volume / "runs").read_text() == "one\ntwo\nnew\none\n"


def test_an_interrupted_command_counts_as_not_run_for_other_kernelspecs_too(
    place: Place, launch: Launch
) -> None:
    steps, cancel = bash("echo run >> runs; test ! -e slow || { echo slow; sleep 60; }"), Event()

    def stop(step: str, message: str, fraction: float | None = None) -> None:
        if message == "slow":
            cancel.set()

    one, two = (replace(place, kernelspec=name) for name in ("one", "two"))
    run(steps, one, launch)
    (place.volume / "slow").touch()
    with pytest.raises(Cancelled):
        run(steps, one, launch, progress=stop, cancel=cancel, force=True)
    (place.volume / "slow").unlink()
    assert not run(steps, two, launch).report[0].hit
    assert (place.volume / "runs").read_text() == "run\n" * 3


@pytest.mark.parametrize(
    "argv", [("./setup.sh",), ("bash", "setup.sh"), ("sh", "{volume}/setup.sh")]
)
def test_a_script_that_changes_is_run_again(
    place: Place, launch: Launch, argv: tuple[str, ...]
) -> None:
    script = place.volume / "setup.sh"
    script.write_text("#!/bin/sh\necho one >> runs\n")
    script.chmod(0o755)
    steps = [BootstrapCommand(tuple(word.format(volume=place.volume) for word in argv))]
    run(steps, place, launch)
    assert run(steps, place, launch).report[0].hit
    script.write_text("#!/bin/sh\necho two >> runs\n")
    assert run(steps, place, launch).report[0].changed == (str(script),)
    assert (place.volume / "runs").read_text() == "one\ntwo\n"


def test_editing_a_file_that_a_command_made_does_not_run_it_again(
    place: Place, launch: Launch
) -> None:
    steps = [BootstrapCommand(("cp", "/etc/hostname", "./mine"))]
    run(steps, place, launch)
    (place.volume / "mine").write_text("edited")
    assert run(steps, place, launch).report[0].hit
    assert (place.volume / "mine").read_text() == "edited"


def test_a_failure_has_exit_code_tail_and_repeat_command_and_the_next_start_tries_again(
    place: Place, launch: Launch
) -> None:
    steps = bash("echo trying >> runs; echo no such data >&2; exit 4")
    for _ in range(2):
        with pytest.raises(HydrationFailed) as failure:
            run(steps, place, launch)
    message, tail = str(failure.value).split("\n", 1)
    assert "exit code 4" in message
    assert "jupyter volumes hydrate analysis.ipynb" in message
    assert tail == "no such data"
    assert (place.volume / "runs").read_text() == "trying\n" * 2
    assert "no such data" in place.log.read_text()


def test_it_runs_in_the_volume_with_closed_input_and_no_secrets(
    place: Place, launch: Launch
) -> None:
    run(bash("cat > input; pwd > here; env > seen"), place, launch)
    assert (place.volume / "input").read_text() == ""
    assert (place.volume / "here").read_text().strip() == str(place.volume)
    seen = (place.volume / "seen").read_text()
    assert f"HOME={launch.env['HOME']}" in seen
    assert "hush-hush" not in seen


def test_no_other_start_hydrates_beside_a_command_whose_start_was_killed(
    place: Place, launch: Launch
) -> None:
    """The command's supervisor holds the lock as well, and outlives the start until the command has ended."""
    code = "import os, psutil; print(*(f.path for f in psutil.Process(os.getppid()).open_files()))"
    run([BootstrapCommand((sys.executable, "-c", code))], place, launch)
    assert str(place.state / "hydration.lock") in place.log.read_text()


def test_it_sees_what_earlier_steps_have_set(place: Place, launch: Launch) -> None:
    class Setter:
        name = "setter"

        def key(self, place: Place, launch: Launch) -> str:
            return "1"

        def intact(self, place: Place, launch: Launch) -> bool:
            return True

        def hydrate(self, *_: object) -> None:
            return None

        def environment(self, place: Place, launch: Launch) -> Launch:
            return replace(launch, env={**launch.env, "COMPILER": "gcc"})

    run([Setter(), *bash('test "$COMPILER" = gcc')], place, launch)
    assert run([Setter()], place, launch).launch.env["COMPILER"] == "gcc"


def test_each_line_of_its_output_is_reported(place: Place, launch: Launch) -> None:
    reported = Reported()
    run(bash("echo one; echo two"), place, launch, progress=reported)
    assert reported.lines == ["bootstrap: running bash", "bootstrap: one", "bootstrap: two"]


def test_a_timeout_and_a_cancel_end_it(place: Place, launch: Launch) -> None:
    mark = f"mark-{place.volume}"
    marked = replace(launch, env={**launch.env, "XDG_MARK": mark})
    with pytest.raises(HydrationFailed, match=r"longer than 0:00:00\.2"):
        run(bash("sleep 300", timedelta(seconds=0.2)), place, marked)
    cancel = Event()

    def stop(step: str, message: str, fraction: float | None = None) -> None:
        if message == "up":
            cancel.set()

    with pytest.raises(Cancelled):
        run(bash("echo up; sleep 300"), place, marked, progress=stop, cancel=cancel)
    assert processes_of(mark) == []


def test_a_command_interrupted_by_a_crash_is_run_again_even_after_its_change_was_undone(
    place: Place, launch: Launch
) -> None:
    steps = bash("echo run >> runs")
    run(steps, place, launch)

    def crash(step: str, message: str, fraction: float | None = None) -> None:
        if message.startswith("running"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(bash("echo other"), place, launch, progress=crash)
    assert not run(steps, place, launch).report[0].hit


@pytest.mark.parametrize("argv", [(), ("",), ("echo", "a\0b")])
def test_an_invalid_argv_is_refused(argv: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="bootstrap_command"):
        BootstrapCommand(argv)


def test_a_missing_program_is_named(place: Place, launch: Launch) -> None:
    with pytest.raises(HydrationFailed, match="'no-such-program' was not found"):
        run([BootstrapCommand(("no-such-program",))], place, launch)
