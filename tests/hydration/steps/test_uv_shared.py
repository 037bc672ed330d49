"""Environments of uv in a volume in which other kernelspecs have environments too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from provisioner.hydration.step import Launch, Place, Step
from provisioner.hydration.steps.overlay.step import Overlay
from provisioner.hydration.steps.python.owners import choose
from provisioner.hydration.steps.uv import step as uv_step
from provisioner.hydration.steps.uv.clone import clone
from provisioner.hydration.steps.uv.declaration import Requirements
from provisioner.hydration.steps.uv.step import UvEnvironment
from tests.hydration.steps.overlay.test_overlay_interpreters import EVERY
from tests.support.starts import Reported, make_place, processes_started, run
from tests.support.wheels import install_by_hand, make_wheel, offline


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with the only wheels that uv finds."""
    shop = tmp_path / "shop"
    for name in ("apple", "plum", "pip"):
        make_wheel(shop, name, "1.0")
    make_wheel(shop, "apple", "0.5")
    return shop


@pytest.fixture
def script(launch: Launch, shop: Path) -> Launch:
    """A launch of Python that is no ipykernel, so that only pip is installed beside the declaration."""
    return offline(launch, shop)


def by(place: Place, kernelspec: str) -> Place:
    return replace(place, kernelspec=kernelspec)


def apples(cache: Path, which: str = "apple") -> list[Step]:
    return [UvEnvironment(Requirements((which,)), cache)]


def said(launch: Launch, code: str) -> str:
    """Return what Python code prints inside a launch."""
    ran = subprocess.run(
        [launch.argv[0], "-c", code],
        env=dict(launch.env),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return ran.stdout.strip()


def prefix(launch: Launch, *modules: str) -> Path:
    """Return the environment of a launch; assert that the modules can be imported in it."""
    return Path(said(launch, f"import {', '.join(('sys', *modules))}; print(sys.prefix)"))


def declared(environment: Path) -> list[str]:
    """Return what an environment's record counts as declared."""
    found: list[str] = json.loads((environment / "hydrated.json").read_text())["installed"]
    return found


def version(launch: Launch, module: str) -> str:
    """Return the version of a module inside a launch."""
    return said(launch, f"import {module}; print({module}.VERSION)")


def install(environment: Path, shop: Path, name: str) -> None:
    install_by_hand(environment, "--find-links", shop, name)


@pytest.mark.parametrize("first", ["overlay", "uv"])
def test_an_overlay_and_an_environment_of_uv_do_not_affect_each_other(
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
    assert said(made["uv"], sees) == "None None", "neither the overlay's nor the server's packages"


def test_a_kernelspec_that_starts_to_declare_requirements_keeps_the_installed_packages(
    script: Launch, place: Place, tmp_path: Path, shop: Path
) -> None:
    before = run([Overlay()], by(place, "one"), script).launch
    install(prefix(before), shop, "plum")
    after = run(apples(tmp_path / "cache"), by(place, "one"), script).launch
    assert prefix(after, "apple", "plum") == place.state / "env"


@pytest.mark.parametrize("which", ["apple", "apple<1"])
def test_an_environment_that_was_an_overlay_meanwhile_does_not_see_the_servers_packages(
    script: Launch, place: Place, tmp_path: Path, shop: Path, which: str
) -> None:
    run(apples(tmp_path / "cache"), place, script)
    overlay = run([Overlay()], place, script).launch
    install(prefix(overlay, "apple", "traitlets"), shop, "plum")
    again = run(apples(tmp_path / "cache", which), place, script).launch
    assert prefix(again, "apple", "plum") == place.state / "env"
    sees = "import importlib.util as u; print(u.find_spec('traitlets'))"
    assert said(again, sees) == "None"
    assert declared(place.state / "env") == ["apple", "pip"]


@pytest.mark.parametrize("name", EVERY)
def test_each_interpreter_has_its_own_environment(
    script: Launch, place: Place, tmp_path: Path, name: str
) -> None:
    steps = apples(tmp_path / "cache")
    one = run(steps, by(place, "one"), script).launch
    other = replace(script, argv=(str(EVERY[name]), *script.argv[1:]))
    two = run(steps, by(place, "two"), other).launch
    assert prefix(one, "apple") != prefix(two, "apple")
    with processes_started() as started:
        for _ in range(2):
            for kernelspec, launch, made in (("one", script, one), ("two", other, two)):
                again = run(steps, by(place, kernelspec), launch)
                assert again.launch == made
                assert again.report[0].hit
    assert started == []


def test_alternating_kernelspecs_of_one_python_each_keep_what_they_declare(
    script: Launch, place: Place, tmp_path: Path
) -> None:
    kernelspecs = {v: apples(tmp_path / "cache", f"apple=={v}") for v in ("1.0", "0.5")}
    made = {v: run(steps, by(place, v), script).launch for v, steps in kernelspecs.items()}
    assert len({prefix(launch) for launch in made.values()}) == 2
    with processes_started() as started:
        for which, steps in [*kernelspecs.items()] * 2:
            again = run(steps, by(place, which), script)
            assert again.launch == made[which]
            assert again.report[0].hit
    assert started == []
    assert all(version(launch, "apple") == which for which, launch in made.items())


def test_the_environment_of_another_kernelspec_starts_with_the_packages_installed_by_hand(
    script: Launch, place: Place, tmp_path: Path, shop: Path
) -> None:
    cache = tmp_path / "cache"
    one = run(apples(cache), by(place, "one"), script).launch
    wheel = make_wheel(tmp_path / "local", "pear", "1.0")
    install(prefix(one), shop, "plum")
    install(prefix(one), shop, str(wheel))
    wheel.unlink()
    two = run(apples(cache, "apple<1"), by(place, "two"), script).launch
    assert prefix(two, "plum", "pear") == place.state / "env-2"
    plum = subprocess.run([prefix(two) / "bin/plum"], stdout=subprocess.PIPE, text=True)
    assert plum.stdout == "plum 1.0\n"
    assert str(prefix(two)) in (prefix(two) / "bin/plum").read_text(), (
        "it is not the other's script"
    )
    assert declared(prefix(two)) == ["apple", "pip"], "packages installed by hand are recognised"
    module = next(prefix(one).glob("lib/python*/site-packages/plum.py"))
    module.write_text(f"{module.read_text()}EDITED = True\n")
    code = "import plum; print(hasattr(plum, 'EDITED'))"
    assert (said(one, code), said(two, code)) == ("True", "False")
    install(prefix(two), shop, "apple==1.0")
    uninstall = [sys.executable, "-m", "pip", "--python", two.argv[0], "uninstall", "-qy", "plum"]
    subprocess.run(uninstall, check=True)
    assert prefix(one, "plum", "pear", "apple") == place.state / "env", (
        "the two environments are separate"
    )


def test_if_an_environment_cannot_be_copied_the_packages_installed_by_hand_are_installed_again(
    script: Launch, place: Place, tmp_path: Path, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel may be running in it and installing something."""

    def changing(source: Path, target: Path, cancel: Event) -> None:
        target.mkdir()
        raise FileNotFoundError(2, "No such file or directory", str(source))

    cache = tmp_path / "cache"
    install(prefix(run(apples(cache), by(place, "one"), script).launch), shop, "plum")
    monkeypatch.setattr(uv_step, "clone", changing)
    two = run(apples(cache, "apple<1"), by(place, "two"), script).launch
    assert prefix(two, "plum", "apple") == place.state / "env-2"


def test_packages_installed_by_hand_survive_a_change_of_requirements_and_then_of_python(
    script: Launch, place: Place, tmp_path: Path, shop: Path
) -> None:
    cache, here = tmp_path / "cache", by(place, "one")
    install(prefix(run(apples(cache), here, script).launch), shop, "plum")
    run(apples(cache, "apple<1"), here, script)
    assert declared(place.state / "env") == ["apple", "pip"]
    record = json.loads((place.state / "env" / "hydrated.json").read_text())
    record["interpreter"] = "/usr/bin/python-of-before"  # it was another one: no copy can be made
    (place.state / "env" / "hydrated.json").write_text(json.dumps(record))
    for which in ("apple", "apple>0"):
        launch = run(apples(cache, which), here, script).launch
        assert prefix(launch, "plum") == place.state / "env"
    assert declared(place.state / "env") == ["apple", "pip"]


def test_after_a_crash_between_the_two_renames_no_other_kernelspec_takes_the_environment(
    script: Launch, place: Place, tmp_path: Path, shop: Path
) -> None:
    """The environment that was renamed comes back, with the packages installed in it."""
    steps = apples(tmp_path / "cache")
    install(prefix(run(steps, by(place, "one"), script).launch), shop, "plum")
    (place.state / "env").rename(place.state / "env.old")
    overlay = run([Overlay()], by(place, "two"), script).launch
    assert prefix(overlay) == place.state / "env-2"
    back = run(steps, by(place, "one"), script).launch
    assert prefix(back, "apple", "plum") == place.state / "env"


def test_packages_installed_by_hand_are_still_recognised_after_a_move(
    script: Launch, tmp_path: Path, shop: Path
) -> None:
    steps, place, moved = apples(tmp_path / "cache"), make_place(tmp_path / "a"), tmp_path / "b"
    install(prefix(run(steps, place, script).launch), shop, "plum")
    place.volume.rename(moved)
    place = Place(moved, moved / place.state.name)
    run(steps, place, script)
    assert declared(place.environment) == ["apple", "pip"]


def test_a_volume_without_a_state_directory_has_no_environments(tmp_path: Path) -> None:
    nowhere = Place(tmp_path, tmp_path / "nowhere")
    assert choose(nowhere, "overlay", sys.executable).environment == nowhere.state / "env"


def test_kernelspecs_that_shared_an_environment_in_earlier_versions_get_one_each(
    script: Launch, place: Place, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    run(apples(cache), by(place, "one"), script)
    claim = place.state / "env" / "claim.json"
    claim.write_text(json.dumps({**json.loads(claim.read_text()), "kernelspecs": ["one", "two"]}))
    for _ in range(2):
        one = run(apples(cache), by(place, "one"), script)
        two = run(apples(cache, "apple<1"), by(place, "two"), script)
        assert (version(one.launch, "apple"), version(two.launch, "apple")) == ("1.0", "0.5")
    assert one.report[0].hit
    assert two.report[0].hit


def test_a_copy_made_during_an_installation_is_discarded(
    script: Launch, place: Place, tmp_path: Path, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def installing(source: Path, target: Path, cancel: Event) -> None:
        """Copy a package that an installer has only half written, and complete it then."""
        packages = next(source.glob("lib/python3*/site-packages"))
        module = packages / "plum.py"
        content = module.read_text()
        module.unlink()
        clone(source, target, cancel)
        module.write_text(content)
        os.utime(packages)

    cache = tmp_path / "cache"
    install(prefix(run(apples(cache), by(place, "one"), script).launch), shop, "plum")
    monkeypatch.setattr(uv_step, "clone", installing)
    two = run(apples(cache, "apple<1"), by(place, "two"), script).launch
    assert prefix(two, "plum", "apple") == place.state / "env-2"


def test_the_declaration_takes_precedence_over_packages_installed_by_hand(
    script: Launch, place: Place, tmp_path: Path, shop: Path
) -> None:
    make_wheel(shop, "date", "1.0", requires=["apple<1"])
    install(prefix(run([Overlay()], place, script).launch), shop, "date")
    reported = Reported()
    launch = run(apples(tmp_path / "cache", "apple==1.0"), place, script, progress=reported).launch
    assert version(launch, "apple") == "1.0"
    assert "date" in reported.text


def test_an_unfinished_environment_of_another_kernelspec_is_removed(
    script: Launch, place: Place, tmp_path: Path
) -> None:
    (place.state / "env-2.new" / "bin").mkdir(parents=True)
    run(apples(tmp_path / "cache"), by(place, "one"), script)
    assert sorted(path.name for path in place.state.glob("env*")) == ["env"]
