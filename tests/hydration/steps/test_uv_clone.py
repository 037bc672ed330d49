from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest

from provisioner.core.errors import Cancelled
from provisioner.hydration.steps.uv.clone import can_reflink, clone, is_immutable, link
from tests.support.images import mounted

LIBRARY = "lib/python3.11/site-packages"
PACKAGE = f"{LIBRARY}/fruit"


def stop(*, at_once: bool = False) -> Event:
    event = Event()
    if at_once:
        event.set()
    return event


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """An environment as uv and its user leave it, with uv's cache beside it."""
    return make_environment(tmp_path)


def make_environment(folder: Path) -> Path:
    environment, cache = folder / "env", folder / "cache"
    for directory in (f"{PACKAGE}/__pycache__", f"{LIBRARY}/fruit-1.dist-info", "bin"):
        (environment / directory).mkdir(parents=True)
    cache.mkdir()
    for number, name in enumerate(("cached.py", "native.so", "linked.pth", "RECORD")):
        (cache / name).write_text(f"shared {number}")
        there = f"{LIBRARY}/fruit-1.dist-info" if name == "RECORD" else PACKAGE
        (environment / there / name).hardlink_to(cache / name)
    (environment / PACKAGE / "own.py").write_text("own")
    (environment / PACKAGE / "__pycache__/cached.cpython-311.pyc").write_bytes(b"code")
    (environment / "pyvenv.cfg").write_text("home = /usr/bin")
    (environment / "bin/run").write_text("#!/bin/sh\n")
    (environment / "bin/run").chmod(0o755)
    (environment / "bin/python").symlink_to("/usr/bin/python3")
    (environment / "lib64").symlink_to("lib")
    os.utime(environment / PACKAGE / "own.py", ns=(1, 1_600_000_000_123_456_789))
    return environment


def files(environment: Path) -> dict[str, Path]:
    paths = (path for path in environment.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(environment)): path for path in paths}


def seen(environment: Path) -> dict[str, tuple[object, ...]]:
    """Return the properties of all files that a kernel can see."""
    found: dict[str, tuple[object, ...]] = {}
    for path in environment.rglob("*"):
        status, name = path.lstat(), str(path.relative_to(environment))
        if path.is_symlink():
            found[name] = (path.readlink(),)
        elif path.is_file():
            found[name] = (path.read_bytes(), status.st_mode, status.st_mtime_ns)
    return found


@pytest.mark.parametrize(
    ("path", "links", "immutable"),
    [
        (f"{PACKAGE}/cached.py", 2, True),
        (f"{PACKAGE}/own.py", 1, False),
        (f"{PACKAGE}/native.so", 3, True),
        (f"{PACKAGE}/__pycache__/own.cpython-311.pyc", 1, True),
        (f"{LIBRARY}/easy-install.pth", 2, False),
        (f"{LIBRARY}/fruit-1.dist-info/RECORD", 2, False),
        ("pyvenv.cfg", 2, False),
        ("hydrated.json", 2, False),
        ("bin/fruit", 2, False),
        ("data.pyc", 2, False),
    ],
)
def test_only_files_that_programs_replace_count_as_immutable(
    path: str, links: int, immutable: bool
) -> None:
    assert is_immutable(path, links) is immutable


def test_a_clone_without_reflinks_shares_only_immutable_files(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provisioner.hydration.steps.uv.clone.can_reflink", lambda directory: False)
    clone(environment, tmp_path / "clone", stop())
    assert seen(tmp_path / "clone") == seen(environment)
    copies = files(tmp_path / "clone")
    shared = {name for name, path in files(environment).items() if path.samefile(copies[name])}
    assert shared == {
        f"{PACKAGE}/cached.py", f"{PACKAGE}/native.so", f"{PACKAGE}/__pycache__/cached.cpython-311.pyc"
    }  # fmt: skip


def test_a_folder_in_the_path_of_the_volume_does_not_make_files_immutable(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provisioner.hydration.steps.uv.clone.can_reflink", lambda directory: False)
    below = tmp_path / "site-packages"
    below.mkdir()
    environment.rename(below / "env")
    (below / "env/second.cfg").hardlink_to(below / "env/pyvenv.cfg")
    clone(below / "env", tmp_path / "clone", stop())
    assert (tmp_path / "clone/pyvenv.cfg").stat().st_nlink == 1


def test_a_linked_copy_shares_all_files_and_keeps_symbolic_links(
    environment: Path, tmp_path: Path
) -> None:
    link(environment, tmp_path / "aside", stop())
    assert seen(tmp_path / "aside") == seen(environment)
    copies = files(tmp_path / "aside")
    assert all(path.samefile(copies[name]) for name, path in files(environment).items())


def test_files_that_cannot_be_linked_are_copied(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*names: object) -> None:
        raise OSError(errno.EMLINK, "too many")

    monkeypatch.setattr(os, "link", refuse)
    for copy in (link, clone):
        copy(environment, tmp_path / copy.__name__, stop())
        assert seen(tmp_path / copy.__name__) == seen(environment)


@pytest.mark.parametrize("copy", [link, clone])
def test_link_and_clone_can_be_cancelled_and_raise_if_the_source_is_gone(
    environment: Path, tmp_path: Path, copy: Callable[[Path, Path, Event], None]
) -> None:
    with pytest.raises(Cancelled):
        copy(environment, tmp_path / "new", stop(at_once=True))
    with pytest.raises(FileNotFoundError):
        copy(tmp_path / "nowhere", tmp_path / "other", stop())


@pytest.fixture(params=["xfs", "btrfs"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system that has reflinks."""
    with mounted(request.param, tmp_path) as disk:
        yield disk


def test_a_reflinked_clone_uses_no_space_and_shares_no_change(disk: Path) -> None:
    environment = make_environment(disk)
    large = environment / PACKAGE / "large.so"
    large.write_bytes(os.urandom(24 << 20))
    os.sync()
    assert can_reflink(disk)
    before = shutil.disk_usage(disk).free
    clone(environment, disk / "clone", stop())
    os.sync()
    assert before - shutil.disk_usage(disk).free < 8 << 20
    assert seen(disk / "clone") == seen(environment)
    copies = files(disk / "clone")
    for name, path in files(environment).items():
        assert not path.samefile(copies[name]), name
        content = path.read_bytes()
        with copies[name].open("r+b") as file:  # in place, as some editors do
            file.write(b"!")
        assert path.read_bytes() == content


def test_an_environment_on_another_file_system_is_copied(disk: Path, environment: Path) -> None:
    clone(environment, disk / "clone", stop())
    assert seen(disk / "clone") == seen(environment)


def test_a_file_system_without_reflinks_is_recognized() -> None:
    memory = Path("/dev/shm")
    assert memory.is_dir() == (os.uname().sysname == "Linux")
    if memory.is_dir():
        assert not can_reflink(memory)
