"""Hydration as a user sees it: real kernels, started by jupyter_client through the provisioner."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.multikernelmanager import AsyncMultiKernelManager
from traitlets.config import Config

from provisioner.core.errors import ConfigError, HydrationFailed
from provisioner.core.event import Event, Kind
from provisioner.core.session import SERVER_VARIABLE
from provisioner.pool.pool import Pool, pool_of
from provisioner.settings.pool import load_settings
from tests.support.kernels import (
    MUTE,
    ask,
    client_of,
    environment,
    install,
    kernel,
    process_of,
    provisioner_of,
    require_free,
)
from tests.support.nix_store import NixStore
from tests.support.pools import wait_for
from tests.support.processes import kill, running
from tests.support.starts import plain_environment, processes_of, processes_started
from tests.support.wheels import make_wheel

PYTHON = ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
SECRETS = {
    "JUPYTERHUB_API_TOKEN": "hush-of-the-hub",
    "JPY_API_TOKEN": "hush-of-jupyter",
    "MY_SECRET": "hush-of-mine",
}
FOREIGN = ("JUPYTER_", "JPY_", "IPYTHON", "NIX_", "UV_", "PIP_", "VIRTUAL_ENV", "XDG_")
REPORT = """
import os, shutil, sys
from importlib.util import find_spec
report = {
    "prefix": sys.prefix,
    "executable": sys.executable,
    "greeting": os.environ.get("GREETING"),
    "hooked": os.environ.get("HOOKED"),
    "ran_by": os.environ.get("RAN_BY"),
    "greet": shutil.which("greet"),
    "apple": find_spec("apple") is not None,
    "plum": find_spec("plum") is not None,
}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, index: Mapping[str, str]) -> Iterator[Pool]:
    """One root and one cache for all tests of this file, so that packages are fetched once."""
    folder = tmp_path_factory.mktemp("world")
    for name, version in (("apple", "1.0"), ("plum", "3.0")):
        make_wheel(folder / "shop", name, version)
    links = ",".join(filter(None, [index.get("UV_FIND_LINKS"), str(folder / "shop")]))
    env = {**plain_environment(), **index, "UV_FIND_LINKS": links, "PATH": os.environ["PATH"]}
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "HOME")
    for name in names:
        (folder / name).mkdir(mode=0o700)
        env[name] = str(folder / name)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(FOREIGN)]:
            patch.delenv(name)
        for name, value in {**env, "JUPYTER_VOLUMES_ROOT": str(folder / "volumes")}.items():
            patch.setenv(name, value)
        pool = pool_of(load_settings())
        yield pool
        pool.close()


def report_of(name: str, session: str | None, **options: Any) -> dict[str, Any]:
    """Start a kernel and return its report."""
    with kernel(name, session, **options) as manager, client_of(manager) as client:
        found: dict[str, Any] = ask(client, "report", REPORT)
        return found


def started(name: str, session: str) -> Path:
    """Start a kernel and shut it down; return its volume."""
    with kernel(name, session) as manager:
        return Path(str(provisioner_of(manager).volume))


def refused(name: str, session: str) -> str:
    """Start a kernel whose start must fail; return the reason."""
    with pytest.raises(HydrationFailed) as failure:
        started(name, session)
    return str(failure.value)


def log_of(volume: Path) -> str:
    """Return a volume's log of hook output."""
    return (volume / ".volume/hydration.log").read_text()


def test_a_bootstrap_command_runs_once_per_volume_and_again_when_it_changes(world: Pool) -> None:
    install("boot", MUTE, bootstrap_command=["sh", "-c", "echo one >> made"])
    for _ in range(2):
        assert (started("boot", "boot") / "made").read_text() == "one\n"
    install("boot", MUTE, bootstrap_command=["sh", "-c", "echo two >> made; echo said"])
    volume = started("boot", "boot")
    assert (volume / "made").read_text() == "one\ntwo\n"
    assert "said\n" in log_of(volume)
    assert (started("boot", "boot of another") / "made").read_text() == "two\n"


def test_each_line_that_a_hook_prints_is_an_event_and_so_is_the_end_of_hydration(
    world: Pool,
) -> None:
    events: list[Event] = []
    install("telling", MUTE, bootstrap_command=["sh", "-c", "echo one; echo two >&2"])
    unsubscribe = world.events.subscribe(events.append)
    started("telling", "telling")
    unsubscribe()
    lines = [e.details for e in events if e.kind is Kind.HYDRATION_PROGRESS]
    printed = [line["message"] for line in lines if line["step"] == "bootstrap"]
    assert sorted(printed) == ["one", "running sh", "two"]
    assert printed[0] == "running sh"
    assert [e.details["hit"] for e in events if e.kind is Kind.HYDRATED] == [False]


def test_the_volume_stays_leased_until_the_last_process_of_a_hook_has_ended(world: Pool) -> None:
    """The supervisor of the hook holds the lease too: the server that started it may have been killed meanwhile."""
    code = "import os, psutil; print(*(f.path for f in psutil.Process(os.getppid()).open_files()))"
    install("held", MUTE, bootstrap_command=[sys.executable, "-c", code])
    volume = started("held", "held")
    assert os.path.realpath(world.root.layout.lease(world.find("held").id)) in log_of(volume)


def test_a_bootstrap_command_that_fails_or_takes_too_long_fails_the_start(world: Pool) -> None:
    script = "echo to stdout; echo the reason >&2; exit 7"
    install("failing", MUTE, bootstrap_command=["sh", "-c", script])
    head, *tail = refused("failing", "failing").splitlines()
    assert "ended with exit code 7" in head
    assert "jupyter volumes hydrate failing" in head
    assert tail[-2:] == ["to stdout", "the reason"]

    command = ["sh", "-c", "echo begun; sleep 600"]
    install("slow", MUTE, bootstrap_command=command, bootstrap_timeout=1)
    why = refused("slow", "slow")
    assert "took longer than 0:00:01" in why
    assert why.endswith("begun")
    assert processes_of(str(world.path(world.find("slow")))) == []
    require_free(world)


def test_a_kernel_runs_in_its_nix_profile_with_the_profiles_python(
    world: Pool, nix_session: NixStore, tmp_path: Path
) -> None:
    flake = nix_session.flake(tmp_path / "flake", hook="export HOOKED=by-the-hook")
    install("nix", PYTHON, "python", nix_profile=f"path:{flake}", overlay=False)
    store = str(nix_session.root / "store")
    with (
        kernel("nix", env=environment("nix", **nix_session.env)) as manager,
        client_of(manager) as client,
    ):
        reported = ask(client, "report", REPORT)
        assert (reported["greeting"], reported["hooked"]) == ("hello", "by-the-hook")
        assert reported["ran_by"].startswith(store)
        assert reported["greet"].startswith(store)
        assert ask(client, "list(said)", "said = !greet") == ["hello"]


def test_nix_uv_and_a_bootstrap_command_compose_and_a_restart_runs_only_the_kernel(
    world: Pool, nix_session: NixStore, tmp_path: Path
) -> None:
    """One kernel shows what each step provides, what the user adds, and where no secret may appear."""
    flake = nix_session.flake(tmp_path / "flake", hook="export HOOKED=yes; env > hook-saw")
    install(
        "all",
        PYTHON,
        "python",
        nix_profile=f"path:{flake}",
        requirements=["apple==1.0"],
        bootstrap_command=["sh", "-c", "env > bootstrap-saw; greet > made; apple >> made"],
    )
    env = environment("all", **nix_session.env, **SECRETS)
    with kernel("all", env=env) as manager:
        volume = Path(str(provisioner_of(manager).volume))
        with client_of(manager) as client:
            before = ask(client, "report", REPORT)
            assert before["prefix"] == str(volume / ".volume/env")
            assert before["executable"].startswith(before["prefix"])
            assert (before["greeting"], before["hooked"]) == ("hello", "yes")
            assert (before["apple"], before["plum"]) == (True, False)
            assert (volume / "made").read_text() == "hello\napple 1.0\n"
            for hook in ("bootstrap-saw", "hook-saw"):
                assert "GREETING=hello\n" in (volume / hook).read_text()
            assert ask(client, "os.environ['MY_SECRET']") == SECRETS["MY_SECRET"]
            assert list(secrets_in(volume)) == []
            shop = os.environ["UV_FIND_LINKS"].split(",")[-1]
            ask(client, "0", f"%pip install --quiet --no-index --find-links {shop} plum")
        with processes_started() as restarted:
            manager.restart_kernel(now=True)
        assert only_the_kernel(restarted)
        with client_of(manager) as client:
            after = ask(client, "report", REPORT)
        assert after == {**before, "plum": True}
    with processes_started() as begun:
        assert report_of("all", None, env=env) == after
    assert only_the_kernel(begun)
    assert (volume / "made").read_text() == "hello\napple 1.0\n"


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
    world: Pool, tmp_path: Path
) -> None:
    """Each volume's command waits until the other's has begun: with one lock for all, it would wait for ever."""
    script = (
        f"touch {tmp_path}/$JUPYTER_VOLUME_SESSION; echo run >> made; n=0; "
        f"until [ -e {tmp_path}/left ] && [ -e {tmp_path}/right ]; do "
        "sleep 0.1; n=$((n+1)); [ $n -lt 600 ] || exit 1; done"
    )
    install("four", MUTE, bootstrap_command=["sh", "-c", script])
    sessions = ("left", "right", "left", "right")

    async def check() -> None:
        manager = AsyncMultiKernelManager(default_kernel_name="four")
        starts = (manager.start_kernel(env=environment(session)) for session in sessions)
        kernels = [manager.get_kernel(kernel_id) for kernel_id in await asyncio.gather(*starts)]
        assert [provisioner_of(one).session for one in kernels] == list(sessions)
        await manager.shutdown_all(now=True)

    asyncio.run(check())
    for session in ("left", "right"):
        assert (world.path(world.find(session)) / "made").read_text() == "run\n"
    require_free(world)


SERVER = """
import os, sys
from jupyter_client.manager import KernelManager
KernelManager(kernel_name="killed").start_kernel(env={**os.environ, "JUPYTER_VOLUME_SESSION": "killed"})
"""


def test_a_server_killed_while_it_hydrates_leaves_no_process_and_the_next_start_completes_the_hydration(
    world: Pool, tmp_path: Path
) -> None:
    begun, proceed = tmp_path / "begun", tmp_path / "proceed"
    script = f"touch {begun}; [ -e {proceed} ] || sleep 600; echo whole >> made"
    install("killed", MUTE, bootstrap_command=["sh", "-c", script])
    with running(SERVER) as server:
        wait_for(lambda: begun.exists() or server.poll() is not None)
        assert server.poll() is None
        kill(server)
    # The hook's supervisor holds the lease until the hook has ended: no other start works beside it.
    wait_for(lambda: not world.leases.is_held(world.find("killed")))
    assert processes_of(str(world.path(world.find("killed")))) == []
    proceed.touch()
    assert (started("killed", "killed") / "made").read_text() == "whole\n"
    require_free(world)


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
    world: Pool, nix_session: NixStore, tmp_path: Path
) -> None:
    profile = f"path:{nix_session.flake(tmp_path / 'flake')}"
    path = notebook(tmp_path / "asks.ipynb", nix_profile=profile)
    install("plain", MUTE)
    env = environment(**{SERVER_VARIABLE: str(path)}, **nix_session.env)
    with pytest.raises(ConfigError, match="allowed_nix_profiles"), kernel("plain", env=env):
        pass
    require_free(world)
    allowing = Config({"VolumePool": {"allowed_nix_profiles": [profile]}})
    with kernel("plain", config=allowing, env=env) as manager:
        assert process_of(manager).environ()["GREETING"] == "hello"
        assert provisioner_of(manager).session == str(path)


def test_a_notebooks_own_requirements_count_only_where_the_administrator_allows_it(
    world: Pool, tmp_path: Path
) -> None:
    block = '# /// script\n# dependencies = ["apple==1.0"]\n# ///\nimport apple'
    path = notebook(tmp_path / "declares.ipynb", block)
    install("overlaid", PYTHON, "python")
    env = environment(**{SERVER_VARIABLE: str(path)})
    assert not report_of("overlaid", None, env=env)["apple"]
    allowing = Config({"VolumePool": {"allow_notebook_requirements": True}})
    assert report_of("overlaid", None, env=env, config=allowing)["apple"]


@pytest.mark.usefixtures("example_package")
def test_a_step_of_another_package_is_an_option_of_kernel_json_and_may_change_the_command_line(
    world: Pool,
) -> None:
    within = "Launch(('env', 'WITHIN=yes', *launch.argv), launch.env)"
    install(
        "third",
        ["bash", "-c", "sleep 600; :", "{connection_file}"],
        example_data="1, 2, 3",
    )
    with kernel("third", "third") as manager:
        assert Path(process_of(manager).environ()["DATA"]).read_text() == "1, 2, 3"
    install(
        "third",
        ["bash", "-c", "sleep 600; :", "{connection_file}"],
        example_odd=f"step.environment = lambda place, launch: {within}",
    )
    with kernel("third", "third") as manager:
        process = process_of(manager)
        wait_for(lambda: process.environ().get("WITHIN") == "yes")
        assert os.path.samefile(process.cmdline()[-1], manager.connection_file)
