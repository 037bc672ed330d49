"""The launch that is hydrated, and what the launcher made of it, brought together."""

from __future__ import annotations

from provisioner.hydration.step import Launch
from provisioner.launch.prepared import hydrated_command, kernel_within

DECLARED = Launch(("python", "-m", "kernel", "-f", "{file}"), {"A": "1"})
HYDRATED = Launch(("/env/python", "-m", "kernel", "-f", "{file}"), {"A": "1", "VOLUME": "v"})


def prepared(*command: str) -> dict[str, object]:
    return {"cmd": list(command), "env": {"OWN": "1"}}


def test_the_kernel_is_what_follows_the_program_that_it_runs_under() -> None:
    found = kernel_within(DECLARED, prepared("srun", "-n1", *DECLARED.argv, "--quiet"))
    assert found == Launch((*DECLARED.argv, "--quiet"), {"OWN": "1"})


def test_where_the_launcher_chose_another_program_all_of_its_command_is_the_kernel() -> None:
    found = kernel_within(DECLARED, prepared("/other/python", "-m", "kernel"))
    assert found == Launch(("/other/python", "-m", "kernel"), {"OWN": "1"})


def test_an_empty_command_line_stays_empty() -> None:
    empty = Launch((), {})
    assert kernel_within(empty, prepared()).argv == ()
    assert hydrated_command(empty, empty, []) == ()


def test_what_runs_the_kernel_stays_before_the_hydrated_command() -> None:
    command = hydrated_command(DECLARED, HYDRATED, ("srun", "-n1", *DECLARED.argv))
    assert command == ("srun", "-n1", *HYDRATED.argv)


def test_a_step_may_change_all_of_the_command() -> None:
    changed = Launch(("wrapper", *DECLARED.argv), {})
    assert hydrated_command(DECLARED, changed, DECLARED.argv) == changed.argv


def test_the_connection_file_is_the_one_that_the_launcher_wrote() -> None:
    now = ("python", "-m", "kernel", "-f", "/run/kernel.json")
    assert hydrated_command(DECLARED, HYDRATED, now) == ("/env/python", *now[1:])


def test_changed_arguments_around_another_connection_file_are_not_guessed() -> None:
    changed = Launch(("wrapper", *DECLARED.argv), {})
    assert hydrated_command(DECLARED, changed, ("python", "-m", "kernel", "-f", "/k.json")) is None
