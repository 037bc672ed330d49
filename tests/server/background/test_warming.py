"""Which spares a server keeps ready, and which it cannot make."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from provisioner.core.record import Spare
from provisioner.hydration.kernelspec import PROVISIONER
from provisioner.pool.pool import Pool
from provisioner.server.background.warming import Warming
from provisioner.settings.pool import VolumePool

NAME = "mute"
LOG = logging.getLogger("test.warming")


def install(name: str, **metadata: Any) -> Path:
    """Write a kernelspec of a kernel without an environment; return its kernel.json."""
    path = Path(os.environ["JUPYTER_DATA_DIR"], "kernels", name, "kernel.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"argv": ["true"], "display_name": name, "language": "none", "metadata": metadata}
    path.write_text(json.dumps(content))
    return path


class Looked(Warming):
    """Looks for missing spares at the test's command, and signals the end."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool, LOG, after=timedelta(milliseconds=1))
        self.has_looked = threading.Semaphore(0)

    def _warm(self, kernelspec: str, wanted: int) -> None:
        super()._warm(kernelspec, wanted)
        self.has_looked.release()

    def look(self) -> None:
        self._wake.set()
        assert self.has_looked.acquire(timeout=60)


@pytest.fixture
def volumes(root: Path) -> Iterator[Pool]:
    pool = Pool(VolumePool(root=str(root), headroom=0))
    yield pool
    pool.close()


@pytest.fixture
def warming(volumes: Pool) -> Iterator[Looked]:
    warming = Looked(volumes)
    yield warming
    assert warming.stop(60)


def begin(warming: Looked, pool: Pool, **spares: int) -> None:
    """Start as a server with this setting does, and wait for the first look."""
    pool.settings.spares = spares
    warming.start()
    for _ in spares:
        assert warming.has_looked.acquire(timeout=60)


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """The warnings in the server's log."""
    messages: list[str] = []

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    notes = Notes(logging.WARNING)
    LOG.addHandler(notes)
    yield messages
    LOG.removeHandler(notes)


def test_a_kernelspec_that_does_not_exist_is_logged_once_and_gets_no_spare(
    volumes: Pool, warming: Looked, warnings: list[str]
) -> None:
    begin(warming, volumes, nope=2)
    warming.look()
    warming.look()
    (line,) = warnings
    assert "\n" not in line
    for part in ("'nope'", "no kernelspec", "VolumePool.spares", "use one of"):
        assert part in line
    assert volumes.catalog.spares() == []


@pytest.mark.parametrize(
    ("written", "reason", "cure"),
    [
        ("{", "kernel.json of 'mute' cannot be read", ""),
        ({}, "'mute' gives no volume", "`jupyter volumes kernelspec add mute-volume --from mute`"),
        (
            {"kernel_provisioner": "volume-provisioner"},
            "get no volume, because metadata.kernel_provisioner is no object",
            '"provisioner_name": "volume-provisioner"',
        ),
    ],
)
def test_a_kernelspec_without_volumes_is_logged_once_and_gets_no_spare(
    volumes: Pool, warming: Looked, warnings: list[str], written: Any, reason: str, cure: str
) -> None:
    if isinstance(written, dict):
        install(NAME, **written)
    else:
        install(NAME).write_text(written)
    begin(warming, volumes, mute=1)
    warming.look()
    (line,) = warnings
    assert "\n" not in line
    assert reason in line
    assert cure in line
    assert volumes.catalog.spares() == []


def test_a_faulty_kernelspec_does_not_stop_the_spares_of_others(
    volumes: Pool, warming: Looked, warnings: list[str]
) -> None:
    install(NAME, kernel_provisioner={"provisioner_name": PROVISIONER})
    begin(warming, volumes, nope=1, mute=1)
    assert [(r.kernelspec, r.spare) for r in volumes.catalog.spares()] == [(NAME, Spare.READY)]
    assert len(warnings) == 1


def test_a_kernelspec_installed_later_gets_its_spares_and_its_removal_is_logged_again(
    volumes: Pool, warming: Looked, warnings: list[str]
) -> None:
    begin(warming, volumes, mute=1)
    path = install(NAME, kernel_provisioner={"provisioner_name": PROVISIONER})
    warming.look()
    assert len(volumes.catalog.spares(NAME)) == 1
    path.unlink()
    warming.look()
    assert len(warnings) == 2


def test_the_name_of_a_kernelspec_is_matched_in_lower_case(volumes: Pool, warming: Looked) -> None:
    install(NAME, kernel_provisioner={"provisioner_name": PROVISIONER})
    begin(warming, volumes, Mute=1)
    (spare,) = volumes.catalog.spares()
    acquired = volumes.acquire("a", NAME, kernel="k")
    assert acquired.record.id == spare.id
    volumes.release(acquired)


def test_a_spare_that_was_claimed_is_made_anew(volumes: Pool, warming: Looked) -> None:
    install(NAME, kernel_provisioner={"provisioner_name": PROVISIONER})
    begin(warming, volumes, mute=1)
    claimed = volumes.acquire("a", NAME, kernel="k")
    assert warming.has_looked.acquire(timeout=60)
    assert [spare.id == claimed.record.id for spare in volumes.catalog.spares()] == [False]
    volumes.release(claimed)


def test_the_default_provisioner_gives_volumes_to_kernelspecs_that_name_none(
    volumes: Pool, warming: Looked, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "jupyter_client.provisioning.factory.KernelProvisionerFactory.default_provisioner_name",
        PROVISIONER,
    )
    install(NAME)
    begin(warming, volumes, mute=1)
    assert len(volumes.catalog.spares(NAME)) == 1
    assert warnings == []
