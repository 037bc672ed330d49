"""An overlay is repaired after any damage, and after any change of the Python below it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from provisioner.core.errors import HydrationFailed
from tests.support.overlaid import Server, Volume, killed_before
from tests.support.starts import processes_started
from tests.support.wheels import unpack


def test_an_interpreter_whose_pyvenv_cfg_changed_is_described_again(
    server: Server, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(server.prefix, other, symlinks=True)
    volume = Volume(tmp_path / "volume", server.launch(python=str(other / "bin" / "python")))
    key = volume.hydrate().overlay.key(volume.place, volume.launch)
    settings = other / "pyvenv.cfg"
    settings.write_text(settings.read_text().replace("= false", "= true"))
    assert volume.overlay.key(volume.place, volume.launch) != key
    assert not volume.intact()
    volume.hydrate()
    assert volume.intact()
    base = volume.ask("site.getsitepackages([sys.base_prefix])", "site")
    assert set(filter(os.path.isdir, base)) <= set(volume.ask("sys.path"))


def test_a_server_that_moved_is_noticed(server: Server, tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    shutil.copytree(server.prefix, before, symlinks=True)
    volume = Volume(tmp_path / "volume", server.launch(python=str(before / "bin" / "python")))
    volume.hydrate()
    before.rename(after)
    with pytest.raises(HydrationFailed, match="does not exist: correct argv"):
        volume.overlay.key(volume.place, volume.launch)
    volume.launch = server.launch(python=str(after / "bin" / "python"))
    assert not volume.intact()
    volume.hydrate()
    assert str(after) in volume.ask("serverside.__file__", "serverside")


@pytest.mark.parametrize(
    "damage",
    [
        "rm -r bin",
        "echo home = > pyvenv.cfg",
        "echo not ours > ../elsewhere; ln -sf ../elsewhere pyvenv.cfg",
        "ln -sf /nonexistent/python bin/python",
        "chmod 600 shims/pip",
        "rm {pth}; mkfifo {pth}",
        "truncate -s 0 {pth}; truncate -s {size} {pth}",
        "rm -r ../env",
    ],
)
def test_damage_is_found_and_repaired(volume: Volume, damage: str) -> None:
    (pth,) = volume.hydrate().packages.glob("*.pth")
    damage = damage.format(pth=pth, size=pth.stat().st_size)
    subprocess.run(["/bin/sh", "-c", damage], cwd=volume.root, check=True)
    assert not volume.intact()
    volume.hydrate()
    assert volume.intact()
    assert volume.ask("[sys.prefix, serverside.version]", "serverside") == [
        str(volume.root),
        "1.0",
    ]
    assert "pip" in volume.sh("pip --version")
    elsewhere = volume.place.state / "elsewhere"
    assert not elsewhere.exists() or elsewhere.read_text() == "not ours\n"


@pytest.mark.parametrize("content", [b"", b"[]", b'{"inputs": {}}', b"\xff\x00", b'{"seal": 1'])
def test_an_interpreter_with_a_damaged_description_is_described_again(
    volume: Volume, content: bytes
) -> None:
    volume.hydrate()
    record = volume.place.state / "python.json"
    record.write_bytes(content)
    assert not volume.intact()
    with pytest.raises(HydrationFailed, match="start the kernel again"):
        volume.overlay.environment(volume.place, volume.launch)
    volume.hydrate()
    assert volume.intact()


@pytest.mark.parametrize(
    "edit", [{"prefix": "/usr"}, {"path": None}, {"base_sites": [7]}, {"executable": "\0"}]
)
def test_an_edited_description_is_not_used(volume: Volume, edit: dict[str, object]) -> None:
    volume.hydrate()
    record = volume.place.state / "python.json"
    answers = json.loads(record.read_text())
    answers[volume.launch.argv[0]]["description"].update(edit)
    record.write_text(json.dumps(answers))
    assert not volume.intact()


def test_a_refresh_describes_the_interpreter_again(volume: Volume) -> None:
    place = replace(volume.hydrate().place, refresh=True)
    with processes_started() as started:
        volume.overlay.hydrate(place, volume.launch, volume._tell, Event())
    assert started


def test_a_kill_at_any_instant_is_repaired_by_the_next_start(volume: Volume) -> None:
    """A child process is killed before its 1st, 2nd, … change to the disk, until one completes."""
    volume.hydrate()
    steps = 0
    while killed_before(steps, volume, anew=True):
        assert volume.intact() == (volume.root / "bin" / "python").is_symlink()
        volume.hydrate()
        assert volume.intact()
        assert volume.ask("serverside.version", "serverside") == "1.0"
        assert not list(volume.root.rglob("*.new"))
        steps += 1
    assert steps > 15
    assert volume.intact()


def test_packages_of_another_python_version_are_kept_and_reported(volume: Volume) -> None:
    old = volume.root / "lib" / "python3.7" / "site-packages"
    unpack(old, "numbers_of", "1.5", {"numbers_of.py": ""})
    unpack(
        old,
        "local_one",
        "0.1",
        {"local_one-0.1.dist-info/direct_url.json": '{"url": "file:///x y"}'},
    )
    editable = '{"url": "file:///src", "dir_info": {"editable": true}}'
    unpack(old, "edited", "0.1", {"edited-0.1.dist-info/direct_url.json": editable})
    unpack(old, "damaged", "3", {"damaged-3.dist-info/direct_url.json": "{"})
    unpack(old, "pip", "20", {"pip/__init__.py": ""})
    (volume.root / "bin").mkdir()
    (volume.root / "bin" / "python3.7").symlink_to("python")
    (volume.root / "shims").mkdir()
    (volume.root / "shims" / "pip3.7").touch()
    volume.hydrate()
    assert volume.reported[-1].endswith(
        "run: %pip install 'local_one @ file:///x y' -e file:///src damaged==3 numbers_of==1.5"
    )
    assert (old / "numbers_of.py").exists()
    assert not (volume.root / "bin" / "python3.7").is_symlink()
    assert not (volume.root / "shims" / "pip3.7").exists()
    assert volume.intact()
    volume.reported.clear()
    shutil.rmtree(volume.root / "bin")
    volume.hydrate()
    assert not volume.reported
