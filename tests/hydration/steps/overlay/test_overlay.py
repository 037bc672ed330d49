"""An overlay is made, found intact, or refused."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import sys
import threading
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from provisioner.core.errors import Cancelled, HydrationFailed
from provisioner.hydration.step import Launch
from provisioner.hydration.steps.overlay.layout import layout
from tests.support.overlaid import Server, Volume, everything
from tests.support.starts import processes_started, run
from tests.support.wheels import unpack


def test_a_new_volume_has_its_own_prefix_and_sees_the_servers_packages(
    volume: Volume, untouched: None
) -> None:
    assert not volume.intact()
    volume.hydrate()
    assert volume.intact()
    assert volume.ask("[sys.prefix, sys.executable]") == [
        str(volume.root),
        str(volume.root / "bin" / "python"),
    ]
    files = "[m.__file__ for m in (serverside, editable, ipykernel)]"
    assert all(volume.ask(files, "serverside", "editable", "ipykernel"))


def test_packages_of_the_volume_come_before_those_of_the_server(
    server: Server, volume: Volume
) -> None:
    volume.hydrate()
    source = volume.path / "source"
    source.mkdir()
    (volume.packages / "z_editable.pth").write_text(f"{source}\n")
    path = volume.ask("sys.path")
    order = [path.index(str(entry)) for entry in (volume.packages, source, server.packages)]
    assert order == sorted(order)
    assert len(path) == len(set(path))


def test_a_start_with_an_intact_overlay_writes_nothing_and_starts_no_process(
    volume: Volume,
) -> None:
    volume.hydrate()
    before = everything(volume.path)
    with processes_started() as started:
        first = volume.overlay.key(volume.place, volume.launch)
        assert volume.intact()
        volume.overlay.environment(volume.place, volume.launch)
        volume.hydrate()
        assert volume.overlay.key(volume.place, volume.launch) == first
    assert not started
    assert everything(volume.path) == before


def test_our_own_interpreter_is_described_without_starting_it_by_each_of_its_names(
    tmp_path: Path,
) -> None:
    names = (Path(sys.executable).name, "python", "python3", f"python3.{sys.version_info.minor}")
    for name in filter(Path.exists, {Path(sys.executable).with_name(name) for name in names}):
        volume = Volume(tmp_path / name.name, Launch((str(name), "-c", ""), dict(os.environ)))
        with processes_started() as started:
            assert volume.hydrate().intact()
        assert not started
        assert volume.ask("ipykernel.__file__", "ipykernel")


@pytest.mark.parametrize("python", ["", sys.executable], ids=["another python", "our own"])
def test_kernels_of_one_server_can_hydrate_one_volume_simultaneously(
    server: Server, tmp_path: Path, python: str
) -> None:
    path, launch = tmp_path / "volume", server.launch(python=python)
    together = threading.Barrier(6)
    failures: list[BaseException] = []

    def hydrate() -> None:
        together.wait()
        try:
            volume = Volume(path, launch)
            run([volume.overlay], volume.place, launch)
        except BaseException as failure:  # noqa: BLE001 - reported by the assertion below
            failures.append(failure)

    for _ in range(5):
        threads = [threading.Thread(target=hydrate) for _ in range(together.parties)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert Volume(path, launch).intact()
        shutil.rmtree(path)


@pytest.mark.parametrize("missing", ["python.json", "env/pyvenv.cfg"])
def test_a_volume_is_written_by_one_thread_at_a_time(volume: Volume, missing: str) -> None:
    path = volume.hydrate().place.state / missing
    path.unlink()
    waiting = threading.Event()

    def start() -> None:
        run([volume.overlay], volume.place, volume.launch, progress=lambda *_: waiting.set())

    thread = threading.Thread(target=start)
    with (volume.place.state / "hydration.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        thread.start()
        assert waiting.wait(60)
        assert not path.exists()
    thread.join()
    assert path.exists()
    assert volume.intact()


@pytest.mark.parametrize("name", ["a b", 'it\'s "$HOME" `x`', "größe-名前-😀", "long" * 60])
def test_a_volume_can_be_at_any_path(server: Server, tmp_path: Path, name: str) -> None:
    volume = Volume(tmp_path / name, server.launch()).hydrate()
    assert volume.ask("[sys.prefix, serverside.version]", "serverside") == [
        str(volume.root),
        "1.0",
    ]
    assert str(server.packages) in volume.sh("pip --version")
    assert volume.intact()


def test_a_server_can_be_at_any_path(server: Server, tmp_path: Path) -> None:
    odd = tmp_path / "l'été \\n 名前"
    shutil.copytree(server.prefix, odd, symlinks=True)
    volume = Volume(tmp_path / "volume", server.launch(python=str(odd / "bin" / "python")))
    assert str(odd) in volume.hydrate().ask("serverside.__file__", "serverside")


def test_a_directory_in_the_way_is_named_and_kept(volume: Volume) -> None:
    way = volume.place.state / "env/bin/python"
    way.mkdir(parents=True)
    (way / "mine").write_text("the user's own")
    assert not volume.intact()
    with pytest.raises(
        HydrationFailed, match=r"could not be written .* move away what is"
    ) as reported:
        run([volume.overlay], volume.place, volume.launch)
    assert way.name in str(reported.value)
    assert "\n" not in str(reported.value)
    assert (way / "mine").read_text() == "the user's own"


@pytest.mark.parametrize("argv", [("bash",), ("conda", "run", "python"), ("/usr/bin/R",), ()])
def test_a_kernel_whose_program_is_no_python_is_unchanged(
    volume: Volume, argv: tuple[str, ...]
) -> None:
    volume.launch = Launch(argv, volume.launch.env)
    assert volume.intact()
    volume.hydrate()
    assert not volume.root.exists()
    assert volume.overlay.environment(volume.place, volume.launch) is volume.launch
    assert volume.overlay.key(volume.place, volume.launch)


def test_a_missing_interpreter_is_reported_in_one_line(volume: Volume) -> None:
    volume.launch = Launch(("python9.9", "-m", "ipykernel_launcher"), volume.launch.env)
    for ask in (volume.intact, volume.hydrate):
        with pytest.raises(HydrationFailed, match=r"python9\.9' does not exist: correct argv"):
            ask()


def script(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.parametrize(
    "text",
    [
        f"echo no such library >&2; {end}"
        for end in ("exit 3", "echo {}", "echo", "echo 7", "kill $$")
    ],
)
def test_an_interpreter_that_does_not_work_is_reported_with_its_output(
    server: Server, tmp_path: Path, text: str
) -> None:
    broken = script(tmp_path / "broken" / "python3", text)
    volume = Volume(tmp_path / "volume", server.launch(python=broken))
    with pytest.raises(HydrationFailed, match='set "overlay" to false') as reported:
        volume.hydrate()
    assert "no such library" in reported.value.tail
    assert not volume.root.exists()


def test_an_interpreter_too_old_for_an_overlay_is_refused_with_the_cure(
    server: Server, tmp_path: Path
) -> None:
    answer = '{"implementation": "cpython", "version": [3, 7, 16], "executable": "/opt/python3.7"}'
    old = script(tmp_path / "old" / "python3", f"echo '{answer}'")
    volume = Volume(tmp_path / "volume", server.launch(python=old))
    with pytest.raises(HydrationFailed, match=r'CPython 3\.8 or newer: .*"overlay" to false'):
        volume.hydrate()


def test_an_interpreter_that_hangs_can_be_cancelled(server: Server, tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    os.mkfifo(alive)
    hanging = script(tmp_path / "hanging" / "python3", f"exec sleep 1000 >{alive}")
    volume = Volume(tmp_path / "volume", server.launch(python=hanging))
    cancel = Event()

    def cancel_once_it_runs() -> None:
        with alive.open("rb") as reader:  # returns when the interpreter has opened it
            cancel.set()
            reader.read()  # returns when the last process that has it open has ended

    watcher = threading.Thread(target=cancel_once_it_runs)
    watcher.start()
    with pytest.raises(Cancelled):
        volume.hydrate(cancel)
    watcher.join(30)
    assert not watcher.is_alive()


def test_a_server_run_from_a_volume_gives_its_kernels_an_overlay_over_that_volume(
    server: Server, volume: Volume, tmp_path: Path
) -> None:
    volume.hydrate()
    unpack(volume.packages, "volumeside", "1.0", {"volumeside.py": ""})
    python = str(volume.root / "bin" / "python")
    inner = Volume(tmp_path / "inner", server.launch(python=python)).hydrate()
    found = inner.ask(
        "[sys.prefix, volumeside.__file__, serverside.version]", "volumeside", "serverside"
    )
    assert found == [str(inner.root), str(volume.packages / "volumeside.py"), "1.0"]
    assert inner.intact()

    volume.launch = server.launch(python=str(inner.root / "bin" / "python"))
    with pytest.raises(
        HydrationFailed, match="this very volume's environment: start the server from"
    ):
        volume.hydrate()
    volume.launch = server.launch(python=python)
    with pytest.raises(HydrationFailed, match="this very volume's environment"):
        volume.hydrate()
    assert inner.ask("serverside.version", "serverside") == "1.0"


def test_a_lib64_is_made_where_python_uses_one(volume: Volume, tmp_path: Path) -> None:
    volume.hydrate()
    from provisioner.hydration.steps.overlay import launching

    python = launching.known(volume.place, volume.launch.argv[0])
    assert python is not None
    for directory, expected in (("lib", False), ("lib64", True)):
        pieces = layout(replace(python, platform_library=directory), tmp_path)
        assert any(piece.path == "lib64" for piece in pieces) is expected
