"""Environments that uv makes in a volume that other kernelspecs have environments in too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from provisioner.hydration.environments import settled
from provisioner.hydration.overlay import Overlay
from provisioner.hydration.step import Launch, Place, Step
from provisioner.hydration.uv import Requirements, UvEnvironment
from tests.hydration.overlay.test_overlay_interpreters import EVERY
from tests.hydration.starts import make_place, run
from tests.hydration.wheels import make_wheel


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder of wheels, which is all that uv finds."""
    shop = tmp_path / "shop"
    for name in ("apple", "plum", "pip"):
        make_wheel(shop, name, "1.0")
    return shop


@pytest.fixture
def script(launch: Launch, shop: Path) -> Launch:
    """A launch of Python that is no ipykernel: only pip comes with what is declared."""
    env = {**launch.env, "UV_NO_INDEX": "1", "UV_FIND_LINKS": str(shop), "PATH": os.environ["PATH"]}
    return Launch((sys.executable, "-m", "apple"), env)


def by(place: Place, kernelspec: str) -> Place:
    return replace(place, kernelspec=kernelspec)


def apples(cache: Path) -> list[Step]:
    return [UvEnvironment(Requirements(("apple",)), cache)]


def prefix(launch: Launch, *modules: str) -> Path:
    """Return the environment that a launch runs in; the modules can be imported there."""
    code = f"import {', '.join(('sys', *modules))}; print(sys.prefix)"
    ran = subprocess.run(
        [launch.argv[0], "-c", code],
        env=dict(launch.env),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return Path(ran.stdout.strip())


def install(environment: Path, shop: Path, name: str) -> None:
    """Install a package by hand."""
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(environment / "bin/python"),
        "install",
        "-q",
    ]
    subprocess.run([*pip, "--no-index", "--find-links", str(shop), name], check=True)


@pytest.mark.parametrize("first", ["overlay", "uv"])
def test_an_overlay_and_an_environment_of_uv_leave_one_another_alone(
    script: Launch, place: Place, tmp_path: Path, shop: Path, first: str
) -> None:
    ways: dict[str, list[Step]] = {"overlay": [Overlay()], "uv": apples(tmp_path / "cache")}
    order = sorted(ways, key=lambda name: name != first)
    made = {name: run(ways[name], by(place, name), script).launch for name in order}
    homes = {name: prefix(launch) for name, launch in made.items()}
    assert [homes[name] for name in order] == [place.state / "env", place.state / "env-2"]
    install(homes["overlay"], shop, "plum")
    for name in order * 2:
        again = run(ways[name], by(place, name), script)
        assert again.launch == made[name]
    assert prefix(made["overlay"], "plum") == homes["overlay"]
    assert prefix(made["uv"], "apple") == homes["uv"]
    sees = "import importlib.util as u; print(u.find_spec('plum'), u.find_spec('traitlets'))"
    ran = subprocess.run([made["uv"].argv[0], "-c", sees], stdout=subprocess.PIPE, text=True)
    assert ran.stdout == "None None\n", "neither what is the overlay's nor what is the server's"


def test_a_kernelspec_that_declares_requirements_from_now_on_keeps_what_was_installed(
    script: Launch, place: Place, tmp_path: Path, shop: Path
) -> None:
    before = run([Overlay()], by(place, "one"), script).launch
    install(prefix(before), shop, "plum")
    after = run(apples(tmp_path / "cache"), by(place, "one"), script).launch
    assert prefix(after, "apple", "plum") == place.state / "env"


@pytest.mark.parametrize("name", EVERY)
def test_each_interpreter_has_an_environment_of_its_own(
    script: Launch, place: Place, tmp_path: Path, name: str
) -> None:
    steps = apples(tmp_path / "cache")
    one = run(steps, by(place, "one"), script).launch
    other = replace(script, argv=(str(EVERY[name]), *script.argv[1:]))
    two = run(steps, by(place, "two"), other).launch
    same = os.path.realpath(EVERY[name]) == os.path.realpath(sys.executable)
    assert (prefix(one, "apple") == prefix(two, "apple")) is same
    assert run(steps, by(place, "one"), script).launch == one
    assert run(steps, by(place, "one"), script).report[0].hit


def test_an_environment_that_was_not_put_in_place_yet_is_nobody_elses(
    script: Launch, place: Place, tmp_path: Path, shop: Path
) -> None:
    """A crash between the two renames: what is aside comes back, with what was installed in it."""
    steps = apples(tmp_path / "cache")
    install(prefix(run(steps, by(place, "one"), script).launch), shop, "plum")
    (place.state / "env").rename(place.state / "env.old")
    overlay = run([Overlay()], by(place, "two"), script).launch
    assert prefix(overlay) == place.state / "env-2"
    back = run(steps, by(place, "one"), script).launch
    assert prefix(back, "apple", "plum") == place.state / "env"


def test_what_was_installed_by_hand_is_still_known_for_that_after_a_move(
    script: Launch, tmp_path: Path, shop: Path
) -> None:
    steps, place, moved = apples(tmp_path / "cache"), make_place(tmp_path / "a"), tmp_path / "b"
    install(prefix(run(steps, place, script).launch), shop, "plum")
    place.volume.rename(moved)
    place = Place(moved, moved / place.state.name)
    run(steps, place, script)
    record = json.loads((place.environment / "hydrated.json").read_text())
    assert record["installed"] == ["apple", "pip"]


def test_a_volume_without_a_state_directory_has_no_environments(tmp_path: Path) -> None:
    nowhere = Place(tmp_path, tmp_path / "nowhere")
    assert settled(nowhere, "overlay", sys.executable).environment == nowhere.state / "env"
