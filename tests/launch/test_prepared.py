"""What a launcher prepared, taken into an environment that was hydrated before."""

from __future__ import annotations

import pytest

from provisioner.hydration.step import Launch
from provisioner.launch.prepared import carry_over

DECLARED = Launch(("python", "-m", "kernel"), {"PATH": "/bin", "PYTHONHOME": "/usr", "A": "1"})
HYDRATED = Launch(("/env/python", "-m", "kernel"), {"PATH": "/env:/bin", "A": "1", "VOLUME": "v"})


def test_what_was_declared_becomes_what_was_hydrated() -> None:
    assert carry_over(DECLARED, HYDRATED, DECLARED) == HYDRATED


def test_what_the_launcher_added_stays() -> None:
    prepared = Launch(("srun", *DECLARED.argv, "-f", "file"), {**DECLARED.env, "OWN": "1"})
    assert carry_over(DECLARED, HYDRATED, prepared) == Launch(
        ("srun", *HYDRATED.argv, "-f", "file"), {**HYDRATED.env, "OWN": "1"}
    )


@pytest.mark.parametrize(
    ("argv", "changed"),
    [
        (("pixi", "run", "kernel"), {}),
        (DECLARED.argv, {"PATH": "/own:/bin"}),
        (DECLARED.argv, {"VOLUME": "other"}),
    ],
)
def test_what_launcher_and_hydration_both_changed_is_not_guessed(
    argv: tuple[str, ...], changed: dict[str, str]
) -> None:
    prepared = Launch(argv, {**DECLARED.env, **changed})
    assert carry_over(DECLARED, HYDRATED, prepared) is None


def test_arguments_that_hydration_changed_are_not_guessed() -> None:
    hydrated = Launch(("wrapper", *DECLARED.argv), DECLARED.env)
    assert carry_over(DECLARED, hydrated, DECLARED) is None


def test_an_empty_command_line_stays_empty() -> None:
    empty = Launch((), {})
    assert carry_over(empty, empty, empty) == empty
