"""Volumes leased for maintenance: whatever fails, the lease is given back."""

from __future__ import annotations

import threading

import pytest

from provisioner.pool.pool import Pool
from provisioner.system.lease import Purpose
from tests.support.pools import acquire


def test_a_lease_is_given_back_if_maintenance_cannot_begin(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquired = acquire(pool)
    pool.release(acquired)

    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with (
            pytest.raises(RuntimeError, match="new thread"),
            pool.leases.maintenance(acquired.record.id, Purpose.BACKUP),
        ):
            pass
    assert not pool.leases.is_held(acquired.record)
    pool.release(acquire(pool))
