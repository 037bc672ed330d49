"""Which kernels of the server have volumes, and the release of volumes whose kernels it has dropped."""

from __future__ import annotations

import pytest

from provisioner.pool.pool import Pool
from provisioner.server import kernels
from provisioner.server.kernels import VolumeKernels
from tests.support.pools import wait_for


def test_the_volume_of_a_kernel_that_the_server_has_dropped_is_released(here: Pool) -> None:
    served = {"k"}
    found = VolumeKernels(here, served.__contains__)
    acquired = here.acquire("a", "mute", kernel="k")
    assert [kernel.kernel for kernel in found.all()] == ["k"]
    served.clear()
    assert found.all() == []
    wait_for(lambda: not here.leases.is_held(acquired.record))
    found.close()


def test_a_kernel_that_another_extension_started_in_the_server_keeps_its_volume(here: Pool) -> None:
    """Voilà has a kernel manager of its own, which this extension does not know."""
    found = VolumeKernels(here, {"k"}.__contains__)
    ours = here.acquire("a", "mute", kernel="k")
    theirs = here.acquire("b", "mute", kernel="voila")
    assert [kernel.kernel for kernel in found.all()] == ["k"]
    # A release of the other volume would have started in its thread before this one.
    here.release(ours)
    wait_for(lambda: not here.leases.is_held(ours.record))
    assert here.leases.is_held(theirs.record)
    here.release(theirs)
    found.close()


def test_kernels_are_listed_even_without_a_free_thread(
    here: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(work: object) -> None:
        raise RuntimeError("can't start new thread")

    served = {"k"}
    listed = VolumeKernels(here, served.__contains__)
    acquired = here.acquire("a", "mute", kernel="k")
    served.clear()
    monkeypatch.setattr(kernels, "Work", none_left)
    assert listed.all() == []
    here.release(acquired)
    listed.close()
