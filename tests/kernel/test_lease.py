"""A kernel's process inherits the lease of its volume, however it is started."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from jupyter_client.manager import AsyncKernelManager

from provisioner.pool.pool import Pool
from tests.support.children import Child
from tests.support.kernels import environment, kernel, process_of, require_free


def leases(process: psutil.Process, pool: Pool) -> int:
    """Return how many descriptors of the lease of the volume `a` a process has."""
    lease = pool.root.layout.lease(pool.find("a").id)
    return [file.path for file in process.open_files()].count(str(lease))


@pytest.mark.parametrize(
    "popen",
    [{}, {"preexec_fn": os.getpid}],
    ids=["usual", "preexec_fn"],
)
def test_a_kernel_holds_its_lease_however_its_process_is_started(
    here: Pool, popen: dict[str, Any]
) -> None:
    with kernel(**popen) as manager:
        assert leases(process_of(manager), here) == 1
        manager.restart_kernel(now=True)
        assert leases(process_of(manager), here) == 1
        assert leases(psutil.Process(), here) == 1, "the launch leaves no copy behind"
    require_free(here)


def test_a_kernel_also_inherits_the_descriptors_that_the_caller_passes(here: Pool) -> None:
    ours, theirs = os.pipe()
    with kernel(pass_fds=(theirs,), preexec_fn=os.getpid) as manager:
        os.close(theirs)
        assert leases(process_of(manager), here) == 1
        os.set_blocking(ours, False)
        with pytest.raises(BlockingIOError):
            os.read(ours, 1)  # the kernel could write still
    os.close(ours)


def test_a_launch_that_fails_leaves_no_descriptor_and_no_lease_behind(here: Pool) -> None:
    def refuse() -> None:
        raise ValueError("no")

    async def start(preexec_fn: Callable[[], None]) -> None:
        manager = AsyncKernelManager(kernel_name="mute")
        with pytest.raises(Exception, match="preexec_fn"):
            await manager.start_kernel(env=environment("a"), preexec_fn=preexec_fn)

    asyncio.run(start(refuse))
    require_free(here)
    assert leases(psutil.Process(), here) == 0


def test_a_forked_child_of_the_server_does_not_hold_the_lease(here: Pool) -> None:
    with kernel(preexec_fn=os.getpid), Child(lambda: leases(psutil.Process(), here)) as child:
        assert child.said() == "0"
