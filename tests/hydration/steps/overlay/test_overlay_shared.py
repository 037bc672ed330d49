"""One volume, several Pythons: each has its own environment, and keeps it when it moves or is upgraded."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from provisioner.core.errors import HydrationFailed
from provisioner.hydration.steps.python.owners import OWNER_FILE
from tests.hydration.steps.overlay.test_overlay_interpreters import EVERY
from tests.support.overlaid import Server, Volume, everything, killed_before, site_packages
from tests.support.starts import processes_started, run
from tests.support.wheels import unpack

PACKAGES = site_packages()


@pytest.fixture
def other(server: Server, tmp_path: Path) -> Path:
    """Another virtual environment of the same version, with its own packages."""
    prefix = tmp_path / "another"
    shutil.copytree(server.prefix, prefix, symlinks=True)
    unpack(prefix / PACKAGES, "otherside", "1.0", {"otherside.py": 'version = "1.0"\n'})
    return prefix


def python_of(prefix: Path) -> str:
    return str(prefix / "bin" / "python")


def of(volume: Volume, python: str | Path, kernelspec: str) -> Volume:
    """Return the same volume for a kernelspec with another Python."""
    argv = (str(python), *volume.launch.argv[1:])
    return Volume(volume.path, replace(volume.launch, argv=argv), kernelspec=kernelspec)


def prefix_of(volume: Volume) -> Path:
    return Path(volume.ask("sys.prefix"))


def test_each_python_has_its_own_environment(volume: Volume, other: Path) -> None:
    one, two = volume.hydrate(), of(volume, python_of(other), "other")
    before = everything(prefix_of(one))
    assert not two.intact()
    two.hydrate()
    assert (prefix_of(one), prefix_of(two)) == (one.root, one.root.with_name("env-2"))
    assert everything(prefix_of(one)) == before
    assert one.intact()
    assert two.intact()
    find = "[bool(importlib.util.find_spec(n)) for n in ('serverside', 'otherside')]"
    assert one.ask(find, "importlib.util") == [True, False]
    assert two.ask(find, "importlib.util") == [True, True]


def test_alternating_starts_write_nothing_and_start_no_python_again(
    volume: Volume, other: Path
) -> None:
    both = [volume.hydrate(), of(volume, python_of(other), "other").hydrate()]
    before = everything(volume.path)
    with processes_started() as started:
        for turn in both * 2:
            assert turn.intact()
            turn.hydrate()
            turn.overlay.environment(turn.place, turn.launch)
    assert not started
    assert everything(volume.path) == before


@pytest.mark.parametrize("name", EVERY)
def test_pythons_of_any_version_have_separate_environments(volume: Volume, name: str) -> None:
    one, two = volume.hydrate(), of(volume, EVERY[name], "other")
    base = one.ask("[sys.version_info[:3], sys.base_prefix, sys.path]")
    two.hydrate()
    assert one.ask("[sys.version_info[:3], sys.base_prefix, sys.path]") == base
    assert prefix_of(one) != prefix_of(two)
    one.hydrate()
    assert two.intact()


def test_packages_installed_with_one_python_are_not_seen_by_another(
    volume: Volume, other: Path
) -> None:
    one, two = volume.hydrate(), of(volume, python_of(other), "other").hydrate()
    one.sh("pip install volumeside==1.0")
    two.sh("pip install volumeside==2.0")
    assert (one.sh("tool"), two.sh("tool")) == ("tool 1.0\n", "tool 2.0\n")
    two.sh("pip uninstall -y volumeside")
    assert one.sh("tool") == "tool 1.0\n"


def test_a_second_python_reports_the_command_that_installs_the_same_packages(
    volume: Volume, other: Path
) -> None:
    volume.hydrate().sh("pip install volumeside==1.0")
    two = of(volume, python_of(other), "other").hydrate()
    assert two.reported[-1].endswith("for them, run: %pip install volumeside==1.0")
    assert python_of(other) in two.reported[-1]
    two.reported.clear()
    (prefix_of(two) / "pyvenv.cfg").unlink()
    two.hydrate()
    assert two.reported == [], "it is reported once"


def test_kernelspecs_with_the_same_python_share_an_environment(
    volume: Volume, tmp_path: Path
) -> None:
    one = volume.hydrate()
    folder, linked = Path(volume.launch.argv[0]).parent, tmp_path / "linked"
    for name in ("python", "python3"):
        two = of(volume, folder / name, f"with {name}").hydrate()
        assert prefix_of(two) == prefix_of(one)
        assert one.intact()
    linked.symlink_to(folder)
    three = of(volume, linked / "python", "by a link").hydrate()
    assert prefix_of(three) == prefix_of(one)


def test_a_python_that_was_upgraded_in_place_keeps_its_environment(
    volume: Volume, other: Path, server: Server
) -> None:
    one = of(volume, python_of(other), "one").hydrate()
    of(volume, server.python, "other").hydrate()
    (prefix_of(one) / PACKAGES / "mine.py").touch()
    os.utime(other / "pyvenv.cfg")
    settings = other / "pyvenv.cfg"
    settings.write_text(settings.read_text() + "upgraded = yes\n")
    assert not one.intact()
    assert prefix_of(one.hydrate()) == one.root
    assert one.ask("mine.__file__", "mine") == str(one.root / PACKAGES / "mine.py")


def test_a_python_that_moved_keeps_its_environment(
    volume: Volume, other: Path, server: Server, tmp_path: Path
) -> None:
    of(volume, server.python, "other").hydrate()
    one = of(volume, python_of(other), "one").hydrate()
    prefix = prefix_of(one)
    (prefix / PACKAGES / "mine.py").touch()
    other.rename(tmp_path / "elsewhere")
    moved = of(volume, python_of(tmp_path / "elsewhere"), "one").hydrate()
    assert prefix_of(moved) == prefix == volume.root.with_name("env-2")
    assert moved.ask("bool(mine.__file__ and otherside)", "mine", "otherside")


def test_a_python_set_up_again_at_another_path_gets_the_environment_of_its_kernelspec(
    volume: Volume, other: Path, server: Server
) -> None:
    one = of(volume, server.python, "one").hydrate()
    (prefix_of(one) / PACKAGES / "mine.py").touch()
    after = of(volume, python_of(other), "one").hydrate()
    assert prefix_of(after) == volume.root
    assert after.ask("bool(mine.__file__ and otherside)", "mine", "otherside")
    assert Path(server.python).exists()


def test_a_kernelspec_that_changes_its_python_takes_no_environment_that_another_one_uses(
    volume: Volume, other: Path, server: Server
) -> None:
    one = of(volume, server.python, "one").hydrate()
    two = of(volume, server.python, "two").hydrate()
    assert one.intact()
    assert two.intact()
    turned = of(volume, python_of(other), "one").hydrate()
    assert prefix_of(turned) == volume.root.with_name("env-2")
    assert prefix_of(two) == volume.root
    assert two.intact()


def test_of_several_environments_without_a_python_a_kernelspec_gets_its_own(
    volume: Volume, server: Server, tmp_path: Path
) -> None:
    prefixes = [tmp_path / name for name in ("one", "two")]
    for prefix in prefixes:
        shutil.copytree(server.prefix, prefix, symlinks=True)
        of(volume, python_of(prefix), prefix.name).hydrate()
    for prefix in prefixes:
        shutil.rmtree(prefix)
    after = of(volume, server.python, "two").hydrate()
    assert prefix_of(after) == volume.root.with_name("env-2")
    after = of(volume, sys.executable, "three").hydrate()
    assert prefix_of(after) == volume.root, "and the other one goes to the next kernelspec"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"maker": 1}', b'{"maker": "overlay"}'])
def test_an_environment_with_a_damaged_owner_file_goes_to_the_first_start(
    volume: Volume, content: bytes
) -> None:
    one = volume.hydrate()
    (volume.root / PACKAGES / "mine.py").touch()
    (volume.root / OWNER_FILE).write_bytes(content)
    assert not one.intact()
    assert prefix_of(one.hydrate()) == volume.root
    assert one.intact()
    assert one.ask("bool(mine.__file__)", "mine")


def test_console_scripts_of_every_environment_follow_a_volume_that_moves(
    volume: Volume, other: Path, tmp_path: Path
) -> None:
    both = [volume.hydrate(), of(volume, python_of(other), "other").hydrate()]
    for environment in both:
        environment.sh("pip install volumeside==1.0")
    volume.path.rename(tmp_path / "moved")
    for environment in both:
        environment.path = tmp_path / "moved"
        assert not environment.intact()
        assert environment.hydrate().sh("tool") == "tool 1.0\n"


def test_two_pythons_started_at_once_get_one_environment_each(
    server: Server, other: Path, tmp_path: Path
) -> None:
    for number in range(5):
        volume = Volume(tmp_path / f"volume{number}", server.launch())
        both = [of(volume, server.python, "one"), of(volume, python_of(other), "two")] * 3
        together = threading.Barrier(len(both))

        def hydrate(turn: Volume, together: threading.Barrier = together) -> None:
            together.wait()
            run([turn.overlay], turn.place, turn.launch)

        threads = [threading.Thread(target=hydrate, args=(turn,)) for turn in both]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(turn.intact() for turn in both)
        assert {prefix_of(turn).name for turn in both} == {"env", "env-2"}


def test_a_kill_at_any_instant_leaves_the_environment_of_the_other_python_unchanged(
    volume: Volume, other: Path
) -> None:
    one, two = volume.hydrate(), of(volume, python_of(other), "other")
    before, steps = everything(volume.root), 0
    while killed_before(steps, two):
        assert one.intact()
        assert two.hydrate().intact()
        assert prefix_of(two) == volume.root.with_name("env-2")
        shutil.rmtree(prefix_of(two))
        steps += 1
    assert steps > 15
    assert everything(volume.root) == before


def test_an_overlay_cannot_lie_over_another_environment_of_its_volume(
    volume: Volume, other: Path
) -> None:
    volume.hydrate()
    two = of(volume, python_of(other), "other").hydrate()
    inside = of(volume, python_of(prefix_of(two)), "inside")
    with pytest.raises(HydrationFailed, match="this very volume's environment"):
        inside.hydrate()


def test_the_description_of_an_interpreter_that_no_longer_exists_is_deleted(
    volume: Volume, other: Path, server: Server
) -> None:
    of(volume, python_of(other), "one").hydrate()
    record = volume.place.state / "python.json"
    assert python_of(other) in record.read_text()
    shutil.rmtree(other)
    of(volume, server.python, "one").hydrate()
    assert python_of(other) not in record.read_text()
