"""Steps that the tests of the pool share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from provisioner.core.errors import VolumeError
from provisioner.core.record import Record
from provisioner.pool.kernels import Acquired
from provisioner.pool.pool import Pool

HOLDER = """
import os, sys
from provisioner.settings.pool import VolumePool
from provisioner.pool.pool import Pool
pool = Pool(VolumePool(root=sys.argv[1]))
acquired = pool.acquire(sys.argv[2], "python3", kernel="theirs")
print(acquired.path, flush=True)
for line in sys.stdin:
    if line == "release\\n":
        pool.release(acquired)
        print("released", flush=True)
"""


def acquire(pool: Pool, session: str = "a", kernel: str = "k1") -> Acquired:
    """Acquire a volume as a kernel does."""
    return pool.acquire(session, "python3", kernel=kernel)


def rename(pool: Pool, old: str, new: str) -> Record | None:
    """Give the volume of session `old` the name `new`."""
    return pool.catalog.relabel(pool.find(old).id, new)


def refusal(kind: type[VolumeError], work: Callable[[], object]) -> str:
    """Return the message of the refusal that `work` raises; it must be one line."""
    with pytest.raises(kind) as caught:
        work()
    said = str(caught.value)
    assert "\n" not in said
    return said


def raising_at(step: str, error: BaseException) -> Callable[[str], None]:
    """Return what stops a pool at a step, as a process that is killed there."""

    def on_step(name: str) -> None:
        if name == step:
            raise error

    return on_step


def leftovers(pool: Pool) -> list[str]:
    """Return what lies under the root and belongs to no volume."""
    layout = pool.root.layout
    ids = {record.id for record in pool.root.registry.volumes.all()}
    return sorted(
        f"{directory.name}/{name}"
        for directory in layout.directories
        for name in os.listdir(directory)
        if name not in ids
    )


def wait_for(what: Callable[[], bool]) -> None:
    """Wait until `what` returns True; fail after 20 seconds."""
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline, "not within 20 s"
        time.sleep(0.01)
