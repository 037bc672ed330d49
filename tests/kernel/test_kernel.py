"""Kernels with volumes, as jupyter_client starts, restarts and ends them."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import textwrap
import time
from pathlib import Path

import pytest
from jupyter_client.ioloop.manager import AsyncIOLoopKernelManager
from jupyter_client.manager import AsyncKernelManager, KernelManager
from jupyter_client.multikernelmanager import AsyncMultiKernelManager, MultiKernelManager
from traitlets.config import Config

from provisioner.core.errors import PoolDisabled, VolumeHeld
from provisioner.core.record import State
from provisioner.pool.pool import Pool
from provisioner.system.lease import Purpose
from tests.support.kernels import (
    MUTE,
    REAL,
    ask,
    client_of,
    environment,
    install,
    kernel,
    pid_of,
    process_of,
    provisioner_of,
    require_free,
    session_with,
)
from tests.support.pools import wait_for
from tests.support.processes import kill, line_of, running
from tests.support.starts import processes_of

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

    async def volume() -> Path:
        manager = AsyncKernelManager(kernel_name=REAL)
        await manager.start_kernel(env=environment("a"))
        found = Path(process_of(manager).cwd())
        await manager.shutdown_kernel(now=True)
        manager.context.destroy(linger=0)
        return found

    assert (asyncio.run(volume()) / "file").read_text() == "kept"
    require_free(here)


def test_a_kernel_that_is_killed_is_restarted_in_its_volume(
    here: Pool, another_process: Pool
) -> None:
    async def run() -> tuple[str | None, str | None]:
        config = Config({"KernelRestarter": {"time_to_dead": 0.1, "stable_start_time": 600.0}})
        manager = AsyncIOLoopKernelManager(kernel_name="mute", config=config)
        await manager.start_kernel(env=environment("a"))
        try:
            before = provisioner_of(manager).volume
            first = pid_of(manager)
            os.kill(first, signal.SIGKILL)
            deadline = time.monotonic() + 30
            # `_restarting` is set once the kernel was restarted, not while that goes on.
            while pid_of(manager) == first or not manager._restarter._restarting:
                assert time.monotonic() < deadline, "it was not restarted"
                assert another_process.leases.is_held(another_process.find("a")), "it stays leased"
                await asyncio.sleep(0.02)
            manager.stop_restarter()
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
    assert here.leases.is_held(here.find("a"))
    holder = here.holder(here.find("a"))
    assert holder is not None
    assert holder.kernels == (third,)
    assert holder.processes == (process_of(manager.get_kernel(third)).pid,)
    manager.shutdown_all(now=True)
    require_free(here)


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
def test_a_start_that_is_cancelled_ends_the_whole_tree_of_its_hook_soon_and_gives_the_volume_back(
    here: Pool, tmp_path: Path, pending: bool
) -> None:
    begun = tmp_path / "begun"
    script = f"(setsid sleep 600 &) ; sleep 600 & touch {begun}; wait"
    install("slow", MUTE, bootstrap_command=["sh", "-c", script])

    async def run() -> float:
        manager = AsyncKernelManager(kernel_name="slow")
        start = asyncio.ensure_future(manager.start_kernel(env=environment("a")))
        while not begun.exists():
            assert not start.done(), start.result()
            await asyncio.sleep(0.02)
        assert here.leases.is_held(here.find("a"))
        assert len(processes_of(str(here.path(here.find("a"))))) >= 3
        began = time.monotonic()
        if pending:
            ready = manager.ready
            ready.cancel()
        else:
            start.cancel()
        # jupyter_client sets the error on the cancelled `ready`, which fails (InvalidStateError).
        with pytest.raises((asyncio.CancelledError, asyncio.InvalidStateError)):
            await start
        return time.monotonic() - began

    assert asyncio.run(run()) < 20
    assert processes_of(str(here.path(here.find("a")))) == []
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
    assert another_process.leases.is_held(another_process.find("a"))
    # jupyter_client drops a kernel that it gives up, and never calls cleanup(restart=False).
    manager.context.destroy(linger=0)
    manager = None
    gc.collect()
    wait_for(lambda: not another_process.leases.is_held(another_process.find("a")))
    wait_for(lambda: here.root.registry.volumes.all()[0].state is State.STOPPED)


# -- servers and kernels that are killed ---------------------------------------------------------------------------


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
    wait_for(lambda: not here.leases.is_held(here.find("a")))
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
    wait_for(lambda: not another_process.leases.is_held(another_process.find("a")))


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
