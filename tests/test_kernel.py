"""Kernels with volumes, as jupyter_client starts, restarts and ends them."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import os
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.ioloop.manager import AsyncIOLoopKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager, KernelManager
from jupyter_client.multikernelmanager import AsyncMultiKernelManager, MultiKernelManager
from jupyter_client.provisioning.factory import KernelProvisionerFactory
from traitlets.config import Config

from provisioner.config import load_settings
from provisioner.errors import (
    BadSession,
    ConfigError,
    LauncherUnusable,
    PoolDisabled,
    VolumeHeld,
)
from provisioner.lease import Purpose
from provisioner.pool import Pool, pool_of
from provisioner.record import State
from provisioner.session import SERVER_VARIABLE

from .kernels import (
    MUTE,
    ask,
    client_of,
    environment,
    install,
    kernel,
    process_of,
    provisioner_of,
)
from .processes import kill, line_of, running

REAL = "python3-volume"


@pytest.fixture
def here(root: Path) -> Iterator[Pool]:
    """The pool of this process, in which all kernels of a test have their volumes."""
    install("mute", MUTE)
    pool = pool_of(load_settings())
    yield pool
    pool.close()


@pytest.fixture
def another_process(here: Pool) -> Iterator[Pool]:
    """The same volumes, as another process sees them."""
    pool = Pool(here.settings)
    yield pool
    pool.close()


def wait_for(what: Callable[[], bool]) -> None:
    """Wait until something is so; fail if it never is."""
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.02)


def require_free(pool: Pool) -> None:
    """Require that no volume is in use."""
    assert [r.session for r in pool.volumes() if pool.is_in_use(r)] == []
    assert [r.session for r in pool.volumes() if r.state is State.ACTIVE] == []


# -- files outlive kernels -----------------------------------------------------------------------------------------


def test_a_kernel_finds_its_files_after_restart_and_after_shutdown(here: Pool) -> None:
    with kernel(REAL) as manager:
        volume = provisioner_of(manager).volume
        assert volume is not None
        with client_of(manager) as client:
            assert ask(client, "os.getcwd()", "import os, sys") == volume
            assert ask(client, "os.environ['JUPYTER_VOLUME']") == volume
            assert ask(client, "os.environ['JUPYTER_VOLUME_SESSION']") == "a"
            assert ask(client, "sys.prefix") == f"{volume}/.volume/env"
            ask(client, "0", "variable = 1; open('file', 'w').write('kept')")
        manager.restart_kernel(now=True)
        with client_of(manager) as client:
            assert ask(client, "open('file').read()") == "kept"
            assert ask(client, "'variable' in globals()") is False
            assert ask(client, "os.getcwd()", "import os") == volume
        manager.shutdown_kernel()
    require_free(here)
    with kernel(REAL) as manager, client_of(manager) as client:
        assert ask(client, "open('file').read()") == "kept"
    assert here.find("a").generation == 2, "a restart keeps the lease, and so the generation"


def test_another_process_and_the_asynchronous_manager_find_the_same_files(here: Pool) -> None:
    script = """
        import sys
        from jupyter_client.manager import start_new_kernel
        manager, client = start_new_kernel(kernel_name="python3-volume")
        client.execute("open('file', 'w').write('kept')", reply=True, timeout=60)
        client.stop_channels()
        manager.shutdown_kernel()
        print(manager.provisioner.volume, flush=True)
    """
    with running(textwrap.dedent(script), env=environment("a")) as other:
        line_of(other)

    async def read() -> str:
        manager = AsyncKernelManager(kernel_name=REAL)
        await manager.start_kernel(env=environment("a"))
        client = manager.client()
        client.start_channels()
        try:
            await client.wait_for_ready(timeout=60)
            reply = await client.execute(
                "", user_expressions={"v": "open('file').read()"}, reply=True, timeout=60
            )
            return str(reply["content"]["user_expressions"]["v"]["data"]["text/plain"])
        finally:
            client.stop_channels()
            await manager.shutdown_kernel(now=True)
            manager.context.destroy(linger=0)

    assert asyncio.run(read()) == "'kept'"
    require_free(here)


def test_a_kernel_that_is_killed_is_restarted_in_its_volume(
    here: Pool, another_process: Pool
) -> None:
    async def run() -> tuple[str | None, str | None]:
        config = Config({"KernelRestarter": {"time_to_dead": 0.1, "stable_start_time": 0.1}})
        manager = AsyncIOLoopKernelManager(kernel_name="mute", config=config)
        await manager.start_kernel(env=environment("a"))
        try:
            before = provisioner_of(manager).volume
            first = process_of(manager)
            first.kill()
            deadline = time.monotonic() + 30
            while process_of(manager) == first or not manager.ready.done():
                assert time.monotonic() < deadline, "it was not restarted"
                assert another_process.is_in_use(another_process.find("a")), "nobody may slip in"
                await asyncio.sleep(0.02)
            assert Path(process_of(manager).cwd()) == here.path(here.find("a"))
            return before, provisioner_of(manager).volume
        finally:
            await manager.shutdown_kernel(now=True)
            manager.context.destroy(linger=0)

    before, after = asyncio.run(run())
    assert before == after is not None
    require_free(here)


def test_the_kernels_of_a_server_have_volumes_of_their_own_and_may_share_one(here: Pool) -> None:
    manager = MultiKernelManager()
    first = manager.start_kernel(kernel_name="mute", env=environment("a"))
    second = manager.start_kernel(kernel_name="mute", env=environment("b"))
    volumes = {provisioner_of(manager.get_kernel(k)).volume for k in (first, second)}
    assert len(volumes) == 2
    # Lab's "Change kernel" starts the new kernel before it ends the old one.
    third = manager.start_kernel(kernel_name="mute", env=environment("a"))
    assert provisioner_of(manager.get_kernel(third)).volume in volumes
    manager.shutdown_kernel(first, now=True)
    assert here.is_in_use(here.find("a"))
    holder = here.holder(here.find("a"))
    assert holder is not None
    assert holder.kernels == (third,)
    assert holder.processes == (process_of(manager.get_kernel(third)).pid,)
    manager.shutdown_all(now=True)
    require_free(here)


# -- whose volume it is --------------------------------------------------------------------------------------------


def notebook(path: Path, session: object = None) -> Path:
    """Write a notebook that asks for a session."""
    metadata = {} if session is None else {"volume": {"session": session}}
    path.write_text(json.dumps({"cells": [], "metadata": metadata, "nbformat": 4}))
    return path


def session_with(**options: Any) -> str | None:
    """Return the session of a kernel that is started so."""
    with kernel(session=None, **options) as manager:
        return provisioner_of(manager).session


def test_the_session_is_named_by_the_first_who_can(
    here: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = notebook(tmp_path / "plain.ipynb")
    asking = notebook(tmp_path / "asking.ipynb", "shared work")
    told = {SERVER_VARIABLE: str(asking)}
    assert session_with(env=environment("caller", **told)) == "caller"
    assert session_with(env=environment(**told)) == "shared work"
    assert session_with(env=environment(**{SERVER_VARIABLE: str(plain)})) == str(plain)
    assert str(session_with()).startswith("kernel:")
    monkeypatch.setenv("JUPYTER_VOLUME_SESSION", "of the process")
    manager = KernelManager(kernel_name="mute")
    manager.start_kernel()  # without env=, as papermill does
    assert provisioner_of(manager).session == "of the process"
    manager.shutdown_kernel(now=True)


def test_two_kernels_without_a_name_have_two_volumes(here: Pool) -> None:
    with kernel(session=None) as first, kernel(session=None) as second:
        assert provisioner_of(first).volume != provisioner_of(second).volume


def test_a_notebook_renamed_while_its_kernel_runs_takes_its_volume_along(
    here: Pool, tmp_path: Path
) -> None:
    old, new = notebook(tmp_path / "old.ipynb"), tmp_path / "new.ipynb"
    with kernel(env=environment(**{SERVER_VARIABLE: str(old)}), session=None) as manager:
        volume = provisioner_of(manager).volume
        old.rename(new)
        manager.restart_kernel(now=True, env=environment(**{SERVER_VARIABLE: str(new)}))
        assert provisioner_of(manager).volume == volume
        assert provisioner_of(manager).session == str(new)
        assert process_of(manager).environ()["JUPYTER_VOLUME_SESSION"] == str(new)
    assert session_with(env=environment(**{SERVER_VARIABLE: str(new)})) == str(new)
    assert here.find(str(old)).id == here.find(str(new)).id
    assert len(here.volumes()) == 1


def test_a_shared_volume_is_not_renamed_after_one_of_its_notebooks(
    here: Pool, tmp_path: Path
) -> None:
    """Its name was asked for; that a notebook no longer asks for it is no word of the others."""
    asking = notebook(tmp_path / "asking.ipynb", "shared work")
    env = environment(**{SERVER_VARIABLE: str(asking)})
    with kernel(env=env, session=None) as manager:
        notebook(asking)
        manager.restart_kernel(now=True, env=env)
        assert provisioner_of(manager).session == "shared work"
    assert [r.session for r in here.volumes()] == ["shared work"]


def test_a_name_that_no_session_can_have_is_refused_in_one_line(here: Pool) -> None:
    for name in ("", " ", "a\nb", "x" * 5000):
        with pytest.raises(BadSession) as caught:
            session_with(env=environment(name))
        assert "\n" not in str(caught.value)
    assert here.volumes() == []


def test_a_run_nested_in_a_cell_has_a_volume_of_its_own(here: Pool, tmp_path: Path) -> None:
    nested = """
import nbformat, nbclient, os
inner = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(
    "import os; print(os.getcwd(), os.environ['JUPYTER_VOLUME_SESSION'])")])
nbclient.NotebookClient(inner, kernel_name="python3-volume").execute()
said = inner.cells[0].outputs[0].text.split()
"""
    path = notebook(tmp_path / "outer.ipynb")
    env = environment(**{SERVER_VARIABLE: str(path)})
    with kernel(REAL, session=None, env=env) as manager, client_of(manager) as client:
        directory, session = ask(client, "said", nested)
        assert directory != provisioner_of(manager).volume
        assert session.startswith("kernel:")
    assert len(here.volumes()) == 2
    require_free(here)


# -- what kernel.json declares -------------------------------------------------------------------------------------


def test_the_kernelspec_is_never_changed_in_place(here: Pool) -> None:
    manager = KernelManager(kernel_name=REAL)
    spec = manager.kernel_spec
    assert spec is not None
    before = copy.deepcopy(spec.to_dict())
    manager.start_kernel(env=environment("a"))
    manager.restart_kernel(now=True)
    manager.shutdown_kernel(now=True)
    assert spec.to_dict() == before
    assert KernelSpecManager().get_kernel_spec(REAL).to_dict() == before


def test_the_working_directory_may_be_the_notebooks(here: Pool, tmp_path: Path) -> None:
    install("beside", MUTE, workdir="notebook")
    with kernel("beside", cwd=str(tmp_path)) as manager:
        assert process_of(manager).cwd() == str(tmp_path)
        assert process_of(manager).environ()["JUPYTER_VOLUME"] == provisioner_of(manager).volume
    with kernel("mute", cwd=str(tmp_path)) as manager:
        assert process_of(manager).cwd() == provisioner_of(manager).volume


def test_variables_are_added_and_may_refer_to_others(
    here: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = {
        "PATH": "/opt/tool/bin:${PATH}",
        "OWN": "$HOME costs $5 ${NONE}",
        "JUPYTER_VOLUME": "/etc",
    }
    install("varied", MUTE, env=declared)
    env = environment("a", HOME="/home/me", POOLS="no", JUPYTER_VOLUME_NOTEBOOK="n.ipynb")
    here.settings.env = {}
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", os.environ["JUPYTER_CONFIG_DIR"])
    config = Path(os.environ["JUPYTER_CONFIG_DIR"]) / "jupyter_volumes_config.json"
    config.write_text(json.dumps({"VolumePool": {"env": {"POOLS": "yes", "OWN": "overridden"}}}))
    with kernel("varied", env=env) as manager:
        found = process_of(manager).environ()
        assert found["PATH"] == f"/opt/tool/bin:{os.environ['PATH']}"
        assert found["OWN"] == "/home/me costs $5 ${NONE}"
        assert found["POOLS"] == "yes"
        assert found["JUPYTER_VOLUME"] == provisioner_of(manager).volume
        assert "JUPYTER_VOLUME_NOTEBOOK" not in found


@pytest.mark.parametrize(
    ("option", "value"),
    [("launchr", "x"), ("workdir", "home"), ("env", {"A": 1}), ("launcher", None), ("overlay", 3)],
)
def test_a_kernel_json_that_makes_no_sense_is_refused_in_one_line(
    here: Pool, option: str, value: object
) -> None:
    install("senseless", MUTE, **{option: value})
    manager = KernelManager(kernel_name="senseless")
    with pytest.raises(
        ConfigError, match=rf"kernel\.json of 'senseless': config\.{option}"
    ) as caught:
        manager.start_kernel(env=environment("a"))
    assert "\n" not in str(caught.value)
    assert here.volumes() == []


def test_a_kernel_of_another_language_has_a_volume_and_no_overlay(here: Pool) -> None:
    command = f'exec {sys.executable} -m ipykernel_launcher -f "$1"'
    install("other", ["bash", "-c", command, "kernel", "{connection_file}"], "bash")
    with kernel("other") as manager, client_of(manager) as client:
        volume = provisioner_of(manager).volume
        assert ask(client, "os.getcwd()", "import os, sys") == volume
        assert ask(client, "sys.prefix") == sys.prefix
        assert not (Path(str(volume)) / ".volume" / "env").exists()


def test_a_default_provisioner_gives_volumes_to_kernelspecs_that_know_nothing_of_them(
    here: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = install("plain", MUTE)
    content = json.loads(path.read_bytes())
    path.write_text(json.dumps({**content, "metadata": {}}))
    monkeypatch.setenv("JUPYTER_DEFAULT_PROVISIONER_NAME", "volume-provisioner")
    KernelProvisionerFactory.clear_instance()
    try:
        with kernel("plain") as manager:
            assert process_of(manager).cwd() == provisioner_of(manager).volume
    finally:
        KernelProvisionerFactory.clear_instance()
    require_free(here)


# -- launchers -----------------------------------------------------------------------------------------------------

LAUNCHERS = '''
import asyncio, os, subprocess
from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase
from provisioner.kernel import VolumeProvisioner
from traitlets import Unicode


class Distant(KernelProvisionerBase):
    """Starts processes in its own way, and passes on nothing but what it knows."""

    process = None
    queue = Unicode("default").tag(config=True)

    @property
    def has_process(self):
        return self.process is not None

    async def poll(self):
        return None if self.process is None else self.process.poll()

    async def wait(self):
        while self.process is not None and self.process.poll() is None:
            await asyncio.sleep(0.01)
        self.process = None
        return 0

    async def send_signal(self, signum):
        self.process.send_signal(signum)

    async def kill(self, restart=False):
        self.process.kill()

    async def terminate(self, restart=False):
        self.process.terminate()

    async def cleanup(self, restart=False):
        pass

    async def pre_launch(self, **kwargs):
        self.parent.write_connection_file()
        self.connection_info = self.parent.get_connection_info()
        return await super().pre_launch(cmd=list(self.kernel_spec.argv), **kwargs)

    async def launch_kernel(self, cmd, *, env, cwd, **kwargs):
        assert not kwargs, kwargs
        self.process = subprocess.Popen(cmd, env={**env, "QUEUE": self.queue}, cwd=cwd)
        self.pid = self.process.pid
        return self.connection_info


class Nested(VolumeProvisioner):
    pass
'''


@pytest.fixture
def launchers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another package's provisioners, installed where Python looks."""
    package = tmp_path / "site"
    (package / "launchers-1.0.dist-info").mkdir(parents=True)
    (package / "launchers.py").write_text(LAUNCHERS)
    (package / "launchers-1.0.dist-info" / "METADATA").write_text("Name: launchers\nVersion: 1.0\n")
    (package / "launchers-1.0.dist-info" / "entry_points.txt").write_text(
        "[jupyter_client.kernel_provisioners]\n"
        "distant = launchers:Distant\nnested = launchers:Nested\n"
    )
    monkeypatch.syspath_prepend(str(package))


def test_another_packages_launcher_starts_the_process_and_the_volume_is_the_same(
    here: Pool, another_process: Pool, launchers: None
) -> None:
    install("far", MUTE, launcher="distant", launcher_config={"queue": "gpu"})
    with kernel("far") as manager:
        process = process_of(manager)
        assert process.cwd() == provisioner_of(manager).volume
        assert process.environ()["QUEUE"] == "gpu"
        assert process.environ()["JUPYTER_VOLUME_SESSION"] == "a"
        assert another_process.is_in_use(another_process.find("a"))
        manager.restart_kernel(now=True)
        assert process_of(manager) != process
    require_free(here)


@pytest.mark.parametrize(
    ("launcher", "cure"),
    [
        ("of-no-package", "is not installed; install its package or use one of"),
        ("volume-provisioner", "itself; name the provisioner that starts the process"),
        ("nested", "gives volumes itself; name one that starts a process"),
    ],
)
def test_a_launcher_that_cannot_start_a_process_is_refused_and_nothing_is_kept(
    here: Pool, launchers: None, launcher: str, cure: str
) -> None:
    install("wrong", MUTE, launcher=launcher)
    manager = KernelManager(kernel_name="wrong")
    with pytest.raises(LauncherUnusable) as caught:
        manager.start_kernel(env=environment("a"))
    assert repr(launcher) in str(caught.value)
    assert cure in str(caught.value)
    assert "\n" not in str(caught.value)
    require_free(here)


def test_what_is_kept_of_a_kernel_names_its_session_and_its_launchers_process(here: Pool) -> None:
    async def run() -> None:
        manager = AsyncKernelManager(kernel_name="mute")
        await manager.start_kernel(env=environment("a"))
        try:
            info = await provisioner_of(manager).get_provisioner_info()
            assert info["session"] == "a"
            assert info["launcher"]["pid"] == process_of(manager).pid
        finally:
            await manager.shutdown_kernel(now=True)

    asyncio.run(run())


# -- starts that fail ----------------------------------------------------------------------------------------------


def test_a_start_that_fails_gives_the_volume_back_and_the_server_can_still_stop(here: Pool) -> None:
    install("broken", ["/no/such/program", "{connection_file}"])

    async def run() -> None:
        manager = AsyncMultiKernelManager()
        with pytest.raises(FileNotFoundError):
            await manager.start_kernel(kernel_name="broken", env=environment("a"))
        require_free(here)
        good = await manager.start_kernel(kernel_name="mute", env=environment("a"))
        assert good in manager
        await asyncio.wait_for(manager.shutdown_all(now=True), 20)

    asyncio.run(run())
    require_free(here)
    with pytest.raises(FileNotFoundError):
        MultiKernelManager().start_kernel(kernel_name="broken", env=environment("a"))
    require_free(here)


@pytest.mark.parametrize("pending", [False, True])
def test_a_start_that_is_cancelled_ends_soon_and_gives_the_volume_back(
    here: Pool, tmp_path: Path, pending: bool
) -> None:
    begun = tmp_path / "begun"
    install("slow", MUTE, bootstrap_command=["sh", "-c", f"touch {begun}; sleep 300"])

    async def run() -> float:
        manager = AsyncKernelManager(kernel_name="slow")
        start = asyncio.ensure_future(manager.start_kernel(env=environment("a")))
        while not begun.exists():
            assert not start.done(), start.result()
            await asyncio.sleep(0.02)
        assert here.is_in_use(here.find("a"))
        began = time.monotonic()
        if pending:
            ready = manager.ready
            ready.cancel()
        else:
            start.cancel()
        # jupyter_client then wants to tell the cancelled `ready` what went wrong, and trips over that.
        with pytest.raises((asyncio.CancelledError, asyncio.InvalidStateError)):
            await start
        return time.monotonic() - began

    assert asyncio.run(run()) < 20
    require_free(here)


def test_a_disabled_pool_refuses_kernels_in_one_line(here: Pool) -> None:
    config = Path(os.environ["JUPYTER_CONFIG_DIR"]) / "jupyter_volumes_config.json"
    config.write_text(json.dumps({"VolumePool": {"enabled": False}}))
    with pytest.raises(PoolDisabled, match="switched off"):
        session_with()


def test_a_session_that_another_process_uses_is_refused_naming_it(
    here: Pool, another_process: Pool
) -> None:
    acquired = another_process.acquire("a", "python3", kernel="theirs")
    manager = KernelManager(kernel_name="mute")
    with pytest.raises(VolumeHeld, match="kernel theirs of process"):
        manager.start_kernel(env=environment("a"))
    another_process.release(acquired)
    require_free(here)


def test_a_kernel_that_dies_at_every_start_does_not_keep_its_volume(
    here: Pool, another_process: Pool
) -> None:
    install("dying", ["false"])
    manager: KernelManager | None = KernelManager(kernel_name="dying")
    assert manager is not None
    manager.start_kernel(env=environment("a"))
    for _ in range(2):
        manager.restart_kernel(now=True)
    assert another_process.is_in_use(another_process.find("a"))
    # What is given up is dropped: nobody calls cleanup(restart=False).
    manager.context.destroy(linger=0)
    manager = None
    gc.collect()
    wait_for(lambda: not another_process.is_in_use(another_process.find("a")))
    wait_for(lambda: here.registry.volumes()[0].state is State.STOPPED)


# -- ends that nobody planned --------------------------------------------------------------------------------------

SERVER = """
import os, sys
from jupyter_client.manager import KernelManager
manager = KernelManager(kernel_name="mute")
manager.start_kernel(env=dict(os.environ))
print(manager.provisioner._launcher.pid, flush=True)
input()
"""


def test_a_kernel_whose_server_was_killed_keeps_its_volume_until_it_is_gone(here: Pool) -> None:
    with running(SERVER, env=environment("a")) as server:
        pid = int(line_of(server))
        kill(server)
    try:
        with pytest.raises(VolumeHeld, match=f"of process {server.pid}"):
            here.acquire("a", "python3", kernel="k")
        assert here.find("a").state is State.ACTIVE
    finally:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not here.is_in_use(here.find("a")))
    with kernel("mute") as manager:
        assert provisioner_of(manager).session == "a"


def test_processes_that_a_kernel_left_behind_keep_its_volume(
    here: Pool, another_process: Pool
) -> None:
    command = "setsid sleep 600 & echo $! > left; exec sleep 600"
    install("leaving", ["bash", "-c", command])
    with kernel("leaving") as manager:
        left = Path(str(provisioner_of(manager).volume)) / "left"
        wait_for(lambda: left.is_file() and left.read_text().strip() != "")
        pid = int(left.read_text())
    try:
        holder = another_process.holder(another_process.find("a"))
        assert holder is not None
        assert holder.purpose is Purpose.LEFT_BEHIND
        assert pid in holder.processes
    finally:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not another_process.is_in_use(another_process.find("a")))


def test_cleaning_up_twice_or_before_a_start_is_harmless(here: Pool) -> None:
    async def run() -> None:
        manager = AsyncKernelManager(kernel_name="mute")
        await manager.start_kernel(env=environment("a"))
        provisioner = provisioner_of(manager)
        (Path(str(provisioner.volume)) / "file").write_text("kept")
        await manager.shutdown_kernel(now=True)
        await provisioner.cleanup(restart=False)
        await provisioner.cleanup(restart=True)
        assert provisioner.session is None
        assert provisioner.volume is None

    asyncio.run(run())
    assert (here.path(here.find("a")) / "file").read_text() == "kept"
    require_free(here)
