"""Overlays over every kind of Python on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from provisioner.core.errors import HydrationFailed
from provisioner.hydration.steps.overlay.launching import OLDEST
from provisioner.hydration.steps.overlay.step import Overlay
from tests.support.overlaid import Server, Volume

_ASK = "import sys; print(*sys.version_info[:2], sys.implementation.name, sys.executable)"


def interpreters() -> Iterator[Path]:
    """Yield the Pythons on this machine: the one that runs these tests, the system's, pyenv's, and those on PATH."""
    yield Path(getattr(sys, "_base_executable", sys.executable))
    yield Path("/usr/bin/python3")
    yield from sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3"))
    for directory in map(Path, os.environ["PATH"].split(os.pathsep)):
        yield from sorted(directory.glob("python3.[0-9]*[0-9]"))


def suitable() -> dict[str, Path]:
    """Return each Python that can carry an overlay once, by its version and path."""
    found: dict[Path, str] = {}
    for path in filter(Path.exists, interpreters()):
        asked = subprocess.run([path, "-c", _ASK], capture_output=True, text=True, check=False)
        if asked.returncode == 0:  # a version manager's entry on PATH may not work
            major, minor, name, executable = asked.stdout.strip().split(" ", 3)
            if name == "cpython" and (int(major), int(minor)) >= OLDEST:
                found.setdefault(Path(executable).resolve(), f"{major}.{minor}")
    return {f"{version}-{path.parent}": path for path, version in found.items()}


EVERY = suitable()


def check(volume: Volume) -> None:
    """Assert what an overlay guarantees over any Python."""
    python = volume.launch.argv[0]
    env = {k: v for k, v in volume.launch.env.items() if k != "PYTHONHOME"}
    code = "import json, sys; print(json.dumps([sys.path, sys.base_prefix]))"
    asked = [python, "-c", code]
    plain = subprocess.run(asked, env=env, capture_output=True, text=True, check=True)
    expected, installation = json.loads(plain.stdout)
    volume.hydrate()
    assert volume.intact()
    path = volume.ask("sys.path")
    added = [entry for entry in path if entry.startswith(str(volume.root))]
    kept = [entry for entry in path if entry not in added]
    assert kept == expected
    assert (volume.root / "bin" / "python").resolve().is_relative_to(Path(installation).resolve())
    prefix, base, purelib, version = volume.ask(
        "[sys.prefix, sys.base_prefix, sysconfig.get_path('purelib'), sys.version_info[:2]]",
        "sysconfig",
    )
    assert prefix == str(volume.root) != base
    assert purelib in added
    assert f"python{version[0]}.{version[1]}" in purelib
    volume.sh("python -m venv --without-pip sub && sub/bin/python -c 'import ssl'")


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("kind", [None, ("--copies",), ("--system-site-packages",)], ids=str)
def test_an_overlay_sees_exactly_what_the_interpreter_sees(
    server: Server, tmp_path: Path, name: str, kind: tuple[str, ...] | None
) -> None:
    python = EVERY[name]
    if kind is not None:
        environment = str(tmp_path / "environment")
        made = [str(python), "-m", "venv", "--without-pip", *kind, environment]
        subprocess.run(made, env=server.env, check=True)
        python = tmp_path / "environment" / "bin" / "python"
    check(Volume(tmp_path / "volume", server.launch(python=str(python))))


def test_an_overlay_lies_over_an_interpreter_at_the_end_of_a_chain_of_links(
    server: Server, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    base = Path(getattr(sys, "_base_executable", sys.executable))
    (first / "python3").symlink_to(base)
    (second / "python3").symlink_to(first / "python3")
    check(Volume(tmp_path / "volume", server.launch(python=str(second / "python3"))))


def test_an_overlay_over_a_wrapper_follows_it_to_the_real_interpreter(
    server: Server, tmp_path: Path
) -> None:
    wrapper = tmp_path / "wrapper" / "python3"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {server.python} "$@"\n')
    wrapper.chmod(0o755)
    volume = Volume(tmp_path / "volume", server.launch(python=str(wrapper))).hydrate()
    assert volume.intact()
    assert volume.ask("serverside.version", "serverside") == "1.0"


def test_a_bare_name_is_looked_up_on_the_kernels_path(server: Server, tmp_path: Path) -> None:
    volume = Volume(tmp_path / "volume", server.launch(python="python3")).hydrate()
    assert volume.ask("serverside.version", "serverside") == "1.0"


def test_an_interpreter_is_recognised_by_all_its_names(server: Server, tmp_path: Path) -> None:
    bin_directory = server.prefix / "bin"
    names = sorted(path.name for path in bin_directory.glob("python*"))
    assert {"python", "python3"} <= set(names)
    launches = [server.launch(python=str(bin_directory / name)) for name in names]
    volume = Volume(tmp_path / "volume", launches[0])
    volume.hydrate()
    keys = {volume.overlay.key(volume.place, launch) for launch in launches}
    assert len(keys) == 1
    assert all(volume.overlay.intact(volume.place, launch) for launch in launches)


@pytest.mark.parametrize(
    ("required", "said"),
    [(">=4", "choose another kernel or widen it"), ("newest", "no version specifier")],
)
def test_an_interpreter_of_a_version_that_is_not_allowed_is_refused(
    server: Server, tmp_path: Path, required: str, said: str
) -> None:
    volume = Volume(tmp_path / "volume", server.launch())
    with pytest.raises(HydrationFailed, match=said):
        Overlay(required).hydrate(volume.place, volume.launch, lambda *_: None, Event())
    fitting = Overlay(">=3.8")
    assert fitting.key(volume.place, volume.launch) != Overlay().key(volume.place, volume.launch)
    fitting.hydrate(volume.place, volume.launch, lambda *_: None, Event())
    assert fitting.intact(volume.place, volume.launch)
