"""Which kernels the server takes for its own, and gives back the volumes of."""

from __future__ import annotations

import pytest

from provisioner.pool.pool import Pool
from provisioner.server import kernels
from provisioner.server.kernels import VolumeKernels
from tests.support.pools import wait_for


def test_the_volume_of_a_kernel_that_the_server_has_dropped_is_given_back(here: Pool) -> None:
    served = {"k"}
    found = VolumeKernels(here, served.__contains__)
    acquired = here.acquire("a", "mute", kernel="k")
    assert [kernel.kernel for kernel in found.all()] == ["k"]
    served.clear()
    assert found.all() == []
    wait_for(lambda: not here.is_in_use(acquired.record))
    found.close()


def test_the_volume_of_a_kernel_that_another_extension_started_in_the_server_stays_its_own(
    here: Pool,
) -> None:
    """Voilà has a kernel manager of its own, which the server does not ask."""
    found = VolumeKernels(here, {"k"}.__contains__)
    ours = here.acquire("a", "mute", kernel="k")
    theirs = here.acquire("b", "mute", kernel="voila")
    assert [kernel.kernel for kernel in found.all()] == ["k"]
    # What would be given back is given back by a thread; the one that is waited for here would have come after it.
    here.release(ours)
    wait_for(lambda: not here.is_in_use(ours.record))
    assert here.is_in_use(theirs.record)
    here.release(theirs)
    found.close()


def test_where_no_thread_is_to_be_had_the_kernels_are_listed_all_the_same(
    here: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What looks at them now and then must not end over it."""

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
