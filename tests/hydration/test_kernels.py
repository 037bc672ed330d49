"""Hydration as a user sees it: real kernels, started by jupyter_client through the provisioner."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from jupyter_client.manager import AsyncKernelManager
from traitlets.config import Config

from provisioner.core.errors import ConfigError, HydrationFailed
from provisioner.core.event import Event, Kind
from tests.support.kernel_worlds import Kernel, World, jupyter_directories
from tests.support.nix_store import NixStore
from tests.support.processes import kill, line_of, running
from tests.support.starts import plain_environment, processes_of, processes_started
from tests.support.wheels import make_wheel

SECRETS = {
    "JUPYTERHUB_API_TOKEN": "hush-of-the-hub",
    "JPY_API_TOKEN": "hush-of-jupyter",
    "MY_SECRET": "hush-of-mine",
}
FOREIGN = ("JUPYTER_", "JPY_", "IPYTHON", "NIX_", "UV_", "PIP_", "VIRTUAL_ENV", "XDG_")
REPORT = """
import json, os, shutil, sys
from importlib.util import find_spec
print(json.dumps({
    "prefix": sys.prefix,
    "executable": sys.executable,
    "greeting": os.environ.get("GREETING"),
    "hooked": os.environ.get("HOOKED"),
    "ran_by": os.environ.get("RAN_BY"),
    "greet": shutil.which("greet"),
    "apple": find_spec("apple") is not None,
    "plum": find_spec("plum") is not None,
}))
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, index: Mapping[str, str]) -> Iterator[World]:
    """One root and one cache for all tests of this file, so that packages are fetched once."""
    folder = tmp_path_factory.mktemp("world")
    for name, version in (("apple", "1.0"), ("plum", "3.0")):
        make_wheel(folder / "shop", name, version)
    links = ",".join(filter(None, [index.get("UV_FIND_LINKS"), str(folder / "shop")]))
    env = {**plain_environment(), **jupyter_directories(folder), **index, "UV_FIND_LINKS": links}
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(FOREIGN)]:
            patch.delenv(name)
        for name, value in env.items():
            patch.setenv(name, value)
        yield World(folder, dict(os.environ))


@pytest.fixture
def nix_world(world: World, nix_session: NixStore) -> World:
    """The same world, with a Nix store."""
    return replace(world, env={**world.env, **nix_session.env})


def until(condition: Callable[[], bool], seconds: float = 90) -> None:
    """Wait until another process has done something."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


async def refused(world: World, kernelspec: str, session: str) -> str:
    """Start a kernel whose start must fail; return the reason."""
    with pytest.raises(HydrationFailed) as failure:
        async with world.kernel(kernelspec, session):
            pass
    return str(failure.value)


def test_a_bootstrap_command_runs_once_per_volume_and_again_when_it_changes(world: World) -> None:
    async def check() -> None:
        name = world.declare("boot", bootstrap_command=["sh", "-c", "echo one >> made"])
        for _ in range(2):
            async with world.kernel(name, "boot") as kernel:
                assert await kernel.ask("print(open('made').read())") == "one"
        world.declare("boot", bootstrap_command=["sh", "-c", "echo two >> made; echo said"])
        async with world.kernel(name, "boot") as kernel:
            assert await kernel.ask("print(open('made').read())") == "one\ntwo"
        async with world.kernel(name, "boot of another") as kernel:
            assert await kernel.ask("print(open('made').read())") == "two"

    asyncio.run(check())
    assert "said\n" in world.log("boot")


def test_each_line_that_a_hook_prints_is_an_event_and_so_is_the_end_of_hydration(
    world: World,
) -> None:
    reported: list[Event] = []
    unsubscribe = world.pool.events.subscribe(reported.append)

    async def check() -> None:
        name = world.declare("telling", bootstrap_command=["sh", "-c", "echo one; echo two >&2"])
        async with world.kernel(name, "telling"):
            pass

    try:
        asyncio.run(check())
    finally:
        unsubscribe()
    events = [event for event in reported if event.session == "telling"]
    lines = [e.details for e in events if e.kind is Kind.HYDRATION_PROGRESS]
    printed = [line["message"] for line in lines if line["step"] == "bootstrap"]
    assert sorted(printed) == ["one", "running sh", "two"]
    assert printed[0] == "running sh"
    assert [e.details["hit"] for e in events if e.kind is Kind.HYDRATED] == [False]


def test_the_volume_stays_leased_until_the_last_process_of_a_hook_has_ended(world: World) -> None:
    """The supervisor of the hook holds the lease too: the server that started it may have been killed meanwhile."""
    code = "import os, psutil; print(*(f.path for f in psutil.Process(os.getppid()).open_files()))"

    async def check() -> None:
        name = world.declare("held", bootstrap_command=["python", "-c", code])
        async with world.kernel(name, "held"):
            pass

    asyncio.run(check())
    path = world.pool.root.layout.lease(world.record("held").id)
    assert os.path.realpath(path) in world.log("held")


def test_a_bootstrap_command_that_fails_or_takes_too_long_fails_the_start(world: World) -> None:
    async def check() -> None:
        script = "echo to stdout; echo the reason >&2; exit 7"
        name = world.declare("failing", bootstrap_command=["sh", "-c", script])
        why = await refused(world, name, "failing")
        head, *tail = why.splitlines()
        assert "ended with exit code 7" in head
        assert "jupyter volumes hydrate failing" in head
        assert tail[-2:] == ["to stdout", "the reason"]
        world.assert_given_back("failing")

        command = ["sh", "-c", "echo begun; sleep 600"]
        name = world.declare("slow", bootstrap_command=command, bootstrap_timeout=1)
        why = await refused(world, name, "slow")
        assert "took longer than 0:00:01" in why
        assert why.endswith("begun")
        world.assert_given_back("slow")
        assert processes_of(str(world.volume("slow"))) == []

    asyncio.run(check())


def test_a_cancelled_start_ends_the_whole_tree_of_the_hook_and_gives_the_volume_back(
    world: World, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    script = f"(setsid sleep 600 &) ; sleep 600 & touch {begun}; wait"
    name = world.declare("cancelled", bootstrap_command=["sh", "-c", script])

    async def check() -> None:
        manager = AsyncKernelManager(kernel_name=name)
        start = asyncio.ensure_future(manager.start_kernel(env=world.environment("cancelled")))
        await asyncio.to_thread(until, begun.exists)
        assert len(processes_of(str(world.volume("cancelled")))) >= 3
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(start, 30)

    asyncio.run(check())
    assert processes_of(str(world.volume("cancelled"))) == []
    world.assert_given_back("cancelled")


def test_a_kernel_runs_in_its_nix_profile_with_the_profiles_python(
    nix_world: World, nix_session: NixStore, tmp_path: Path
) -> None:
    flake = nix_session.flake(tmp_path / "flake", hook="export HOOKED=by-the-hook")
    name = nix_world.declare("nix", nix_profile=f"path:{flake}", overlay=False)

    async def check() -> None:
        async with nix_world.kernel(name, "nix") as kernel:
            reported = json.loads(await kernel.ask(REPORT))
            store = str(nix_session.root / "store")
            assert (reported["greeting"], reported["hooked"]) == ("hello", "by-the-hook")
            assert reported["ran_by"].startswith(store)
            assert reported["greet"].startswith(store)
            assert await kernel.ask("!greet") == "hello"

    asyncio.run(check())


def test_nix_uv_and_a_bootstrap_command_compose_and_a_restart_runs_only_the_kernel(
    nix_world: World, nix_session: NixStore, tmp_path: Path
) -> None:
    """One kernel shows what each step provides, what the user adds, and where no secret may appear."""
    flake = nix_session.flake(tmp_path / "flake", hook="export HOOKED=yes; env > hook-saw")
    name = nix_world.declare(
        "all",
        nix_profile=f"path:{flake}",
        requirements=["apple==1.0"],
        bootstrap_command=["sh", "-c", "env > bootstrap-saw; greet > made; apple >> made"],
    )

    async def check() -> None:
        async with nix_world.kernel(name, "all", env=SECRETS) as kernel:
            volume = nix_world.volume("all")
            before = json.loads(await kernel.ask(REPORT))
            assert before["prefix"] == str(volume / ".volume/env")
            assert before["executable"].startswith(before["prefix"])
            assert (before["greeting"], before["hooked"]) == ("hello", "yes")
            assert (before["apple"], before["plum"]) == (True, False)
            assert (volume / "made").read_text() == "hello\napple 1.0\n"
            for hook in ("bootstrap-saw", "hook-saw"):
                assert "GREETING=hello\n" in (volume / hook).read_text()
            assert await kernel.evaluate("os.environ['MY_SECRET']", "os") == SECRETS["MY_SECRET"]
            assert list(secrets_in(volume)) == []

            shop = nix_world.folder / "shop"
            await kernel.ask(f"%pip install --quiet --no-index --find-links {shop} plum")
            with processes_started() as restarted:
                await kernel.manager.restart_kernel(now=True)
            assert only_the_kernel(restarted)
            after = json.loads(await kernel.ask(REPORT))
            assert after == {**before, "plum": True}
        with processes_started() as started:
            async with nix_world.kernel(name, "all", env=SECRETS) as kernel:
                assert json.loads(await kernel.ask(REPORT)) == after
        assert only_the_kernel(started)
        assert (volume / "made").read_text() == "hello\napple 1.0\n"

    asyncio.run(check())


def secrets_in(volume: Path) -> Iterator[Path]:
    """Yield the files of a volume that contain a secret."""
    for path in volume.rglob("*"):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            if any(secret.encode() in content for secret in SECRETS.values()):
                yield path


def only_the_kernel(started: list[str]) -> bool:
    """Whether the only child process of this process is a kernel."""
    return len(started) == 1 and "ipykernel_launcher" in started[0]


def test_four_kernels_started_at_once_hydrate_each_volume_once_and_both_volumes_in_parallel(
    world: World, tmp_path: Path
) -> None:
    """Each volume's command waits until the other's has begun: with one lock for all, it would wait for ever."""
    script = (
        f"touch {tmp_path}/$JUPYTER_VOLUME_SESSION; echo run >> made; n=0; "
        f"until [ -e {tmp_path}/left ] && [ -e {tmp_path}/right ]; do "
        "sleep 0.1; n=$((n+1)); [ $n -lt 600 ] || exit 1; done"
    )
    name = world.declare("four", bootstrap_command=["sh", "-c", script])

    async def check() -> None:
        async with world.kernels(name) as manager:
            sessions = ("left", "right", "left", "right")
            ids = await asyncio.gather(
                *(manager.start_kernel(env=world.environment(session)) for session in sessions)
            )
            kernels = [Kernel.of(manager, kernel_id) for kernel_id in ids]
            asked = (
                kernel.evaluate("os.environ['JUPYTER_VOLUME_SESSION']", "os") for kernel in kernels
            )
            assert await asyncio.gather(*asked) == list(sessions)

    asyncio.run(check())
    for session in ("left", "right"):
        assert (world.volume(session) / "made").read_text() == "run\n"
        world.assert_given_back(session)


SERVER = """
import asyncio, os, sys
from jupyter_client.manager import AsyncKernelManager
manager = AsyncKernelManager(kernel_name=sys.argv[1])
env = {**os.environ, "JUPYTER_VOLUME_SESSION": sys.argv[2]}
asyncio.run(manager.start_kernel(env=env))
print("up", flush=True)
"""


def test_a_server_killed_while_it_hydrates_leaves_no_process_and_the_next_start_completes_the_hydration(
    world: World, tmp_path: Path
) -> None:
    begun, proceed = tmp_path / "begun", tmp_path / "proceed"
    script = f"touch {begun}; [ -e {proceed} ] || sleep 600; echo whole >> made"
    name = world.declare("killed", bootstrap_command=["sh", "-c", script])
    with running(SERVER, name, "killed", env=dict(world.env)) as server:
        until(lambda: begun.exists() or server.poll() is not None)
        assert server.poll() is None, line_of(server)
        kill(server)
    volume = world.volume("killed")
    # The hook's supervisor holds the lease until the hook has ended: no other start works beside it.
    until(lambda: not world.is_leased("killed"), 30)
    assert processes_of(str(volume)) == []
    proceed.touch()

    async def check() -> None:
        async with world.kernel(name, "killed") as kernel:
            assert await kernel.ask("print(open('made').read())") == "whole"

    asyncio.run(check())
    world.assert_given_back("killed")


def notebook(path: Path, *cells: str, **volume: str) -> Path:
    """Write a notebook with metadata for its volume."""
    code: dict[str, object] = {
        "cell_type": "code",
        "metadata": {},
        "execution_count": None,
        "outputs": [],
    }
    content = {
        "cells": [{**code, "id": f"cell-{n}", "source": cell} for n, cell in enumerate(cells)],
        "metadata": {"volume": volume},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path.write_text(json.dumps(content))
    return path


def test_a_notebook_chooses_a_nix_profile_only_where_the_administrator_allows_it(
    nix_world: World, nix_session: NixStore, tmp_path: Path
) -> None:
    profile = f"path:{nix_session.flake(tmp_path / 'flake')}"
    path = notebook(tmp_path / "asks.ipynb", nix_profile=profile)
    name = nix_world.declare("plain", overlay=False)

    async def check() -> None:
        with pytest.raises(ConfigError, match="allowed_nix_profiles"):
            async with nix_world.kernel(name, env={"JPY_SESSION_NAME": str(path)}):
                pass
        nix_world.assert_given_back(str(path))
        allowing = Config({"VolumePool": {"allowed_nix_profiles": [profile]}})
        async with nix_world.kernel(
            name, config=allowing, env={"JPY_SESSION_NAME": str(path)}
        ) as kernel:
            assert await kernel.evaluate("os.environ['GREETING']", "os") == "hello"
            assert await kernel.evaluate("os.environ['JUPYTER_VOLUME_SESSION']", "os") == str(path)

    asyncio.run(check())


def test_a_notebooks_own_requirements_count_only_where_the_administrator_allows_it(
    world: World, tmp_path: Path
) -> None:
    block = '# /// script\n# dependencies = ["apple==1.0"]\n# ///\nimport apple'
    path = notebook(tmp_path / "declares.ipynb", block)
    name = world.declare("overlaid")

    async def check() -> None:
        async with world.kernel(name, env={"JPY_SESSION_NAME": str(path)}) as kernel:
            assert not json.loads(await kernel.ask(REPORT))["apple"]
        allowing = Config({"VolumePool": {"allow_notebook_requirements": True}})
        async with world.kernel(
            name, config=allowing, env={"JPY_SESSION_NAME": str(path)}
        ) as kernel:
            assert await kernel.evaluate("apple.VERSION", "apple") == "1.0"

    asyncio.run(check())


@pytest.mark.usefixtures("example_package")
def test_a_step_of_another_package_is_an_option_of_kernel_json(world: World) -> None:
    name = world.declare("third", example_data="1, 2, 3")

    async def check() -> None:
        async with world.kernel(name, "third") as kernel:
            assert (
                await kernel.ask("import os; print(open(os.environ['DATA']).read())") == "1, 2, 3"
            )

    asyncio.run(check())
