"""A further spare is copied from the first one, if that is unused and has the same environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import pytest

from provisioner.cli.app import run as jupyter_volumes
from provisioner.core.record import Record
from provisioner.hydration.environment import Environment
from provisioner.hydration.kernelspec import declared
from provisioner.maintenance.spares import warm
from provisioner.pool.kernels import Acquired
from provisioner.pool.pool import Pool
from provisioner.settings.pool import VolumePool
from provisioner.system.lease import Purpose
from tests.support.images import mounted
from tests.support.starts import processes_started
from tests.support.wheels import make_wheel

NAME = "fruit"
COPYING = "copying the environment of another volume"


@dataclass
class Orchard:
    """A root, a kernelspec that declares requirements, and the progress of hydrations."""

    root: Path
    spec: Path
    shop: Path
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pool = Pool(VolumePool(root=str(self.root), headroom=0))
        self.declare(requirements=["apple==1.0"])

    def declare(self, **config: object) -> None:
        stanza = {"provisioner_name": "volume-provisioner", "config": config}
        content = {
            "argv": ["python", "-m", "apple"],
            "display_name": NAME,
            "language": "python",
            "metadata": {"kernel_provisioner": stanza},
        }
        self.spec.write_text(json.dumps(content))

    def warm(self, wanted: int) -> list[str]:
        """Make spares; return the reported progress."""
        self.lines.clear()
        warm(self.pool, NAME, wanted, progress=self.tell, cancel=Event())
        return self.lines

    def tell(self, step: str, message: str, fraction: float | None = None) -> None:
        self.lines.append(message)

    def spares(self) -> list[Record]:
        return self.pool.catalog.spares(NAME)

    def environment(self, record: Record) -> Path:
        return self.pool.path(record) / ".volume/env"

    def packages(self, record: Record) -> Path:
        (found,) = self.environment(record).glob("lib/python*/site-packages")
        return found

    def ready(self, acquired: Acquired) -> bool:
        options, launch = declared(NAME, os.environ)
        volume = Environment(self.pool.settings, options, acquired.record, acquired.path)
        return volume.is_ready(launch)

    def has_copied(self) -> bool:
        return any(COPYING in line for line in self.lines)


@pytest.fixture
def orchard(
    tmp_path: Path, index: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Orchard]:
    yield from _orchard(tmp_path, tmp_path / "root", index, monkeypatch)


def _orchard(
    tmp_path: Path, root: Path, index: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Orchard]:
    shop, spec = tmp_path / "shop", tmp_path / "data/kernels" / NAME / "kernel.json"
    for name, version in (("apple", "1.0"), ("apple", "2.0"), ("plum", "3.0"), ("pip", "99")):
        make_wheel(shop, name, version)
    spec.parent.mkdir(parents=True)
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path / "config"))
    links = ",".join(filter(None, [index.get("UV_FIND_LINKS"), str(shop)]))
    for name, value in {**index, "UV_FIND_LINKS": links}.items():
        monkeypatch.setenv(name, value)
    orchard = Orchard(root, spec, shop)
    yield orchard
    orchard.pool.close()


def install(orchard: Orchard, record: Record, *what: str) -> None:
    """Install a package with pip, whose scripts contain the full path of their interpreter."""
    target = orchard.environment(record) / "bin/python"
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", target, "install", "--quiet"]
    subprocess.run([*pip, "--no-index", "--find-links", orchard.shop, *what], check=True)


def test_the_second_spare_is_copied_without_starting_a_process_and_runs_independently(
    orchard: Orchard,
) -> None:
    assert not any(COPYING in line for line in orchard.warm(1))
    with processes_started() as started:
        assert any(COPYING in line for line in orchard.warm(2))
    assert started == []
    first, second = orchard.spares()
    acquired = orchard.pool.acquire("mine", NAME, kernel="k")
    assert acquired.record.id == first.id
    other = orchard.pool.acquire("yours", NAME, kernel="k")
    assert other.record.id == second.id
    assert orchard.ready(other)
    ran = subprocess.run(
        [orchard.environment(second) / "bin/apple"], check=True, capture_output=True
    )
    assert ran.stdout == b"apple 1.0\n"
    printed = subprocess.run(
        [orchard.environment(second) / "bin/python", "-c", "import apple; print(apple.__file__)"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert printed.strip() == str(orchard.packages(second) / "apple.py")


def test_no_file_of_a_copy_contains_the_path_of_the_template(orchard: Orchard) -> None:
    orchard.warm(1)
    install(orchard, orchard.spares()[0], "--force-reinstall", "apple==1.0")
    orchard.warm(2)
    assert orchard.has_copied()
    first, second = orchard.spares()
    assert str(orchard.pool.path(first)) in (orchard.environment(first) / "bin/apple").read_text()
    named = str(orchard.pool.path(first)).encode()
    naming = [
        path
        for path in orchard.environment(second).rglob("*")
        if path.is_file() and path.suffix != ".pyc" and named in path.read_bytes()
    ]
    assert naming == []


def test_a_change_in_one_volume_does_not_appear_in_its_copy(orchard: Orchard) -> None:
    orchard.warm(2)
    first, second = orchard.spares()
    install(orchard, first, "plum")
    assert not (orchard.packages(second) / "plum.py").exists()
    changed = ("pyvenv.cfg", "hydrated.json", "bin/apple")
    for name in changed:
        before = (orchard.environment(second) / name).read_bytes()
        with (orchard.environment(first) / name).open("ab") as file:
            file.write(b"# edited in place")
        assert (orchard.environment(second) / name).read_bytes() == before


def test_a_spare_that_was_used_is_not_copied(orchard: Orchard) -> None:
    orchard.warm(1)
    (record,) = orchard.spares()
    used = orchard.pool.acquire(record.session, NAME, kernel="a shell in it")
    orchard.pool.release(used)
    orchard.warm(2)
    assert len(orchard.spares()) == 2
    second = orchard.spares()[1]
    assert (orchard.packages(second) / "apple.py").exists()
    assert any("making a virtual environment" in line for line in orchard.lines)


def test_a_spare_in_which_a_hook_has_installed_something_is_not_copied(orchard: Orchard) -> None:
    orchard.warm(1)
    install(orchard, orchard.spares()[0], "plum")
    orchard.warm(2)
    assert not (orchard.packages(orchard.spares()[1]) / "plum.py").exists()
    assert any("making a virtual environment" in line for line in orchard.lines)


@pytest.mark.parametrize("fate", ["claimed", "retired"])
def test_a_copy_of_a_template_that_is_claimed_or_removed_meanwhile_is_discarded_and_uv_installs(
    orchard: Orchard, fate: str
) -> None:
    orchard.warm(1)
    (template,) = orchard.spares()

    def meddle(step: str, message: str, fraction: float | None = None) -> None:
        orchard.tell(step, message)
        if COPYING not in message or template not in orchard.spares():
            return
        if fate == "claimed":
            mine = orchard.pool.acquire("mine", NAME, kernel="k")
            (orchard.packages(mine.record) / "apple.py").unlink()
        else:
            with orchard.pool.leases.maintenance(template.id, Purpose.PRUNE) as leased:
                orchard.pool.files.discard(leased)

    orchard.lines.clear()
    warm(orchard.pool, NAME, 2, progress=meddle, cancel=Event())
    assert orchard.has_copied()
    assert any("making a virtual environment" in line for line in orchard.lines)
    for record in orchard.spares():
        assert (orchard.packages(record) / "apple.py").exists()


def test_a_spare_of_other_requirements_is_not_copied(orchard: Orchard) -> None:
    orchard.warm(1)
    orchard.declare(requirements=["apple==2.0"])
    orchard.warm(1)
    (record,) = orchard.spares()
    assert "2.0" in (orchard.packages(record) / "apple.py").read_text()
    assert not orchard.has_copied()


def test_the_bootstrap_command_runs_in_each_volume(orchard: Orchard) -> None:
    command = ["sh", "-c", 'echo "$JUPYTER_VOLUME" >> made']
    orchard.declare(requirements=["apple==1.0"], bootstrap_command=command)
    orchard.warm(2)
    assert orchard.has_copied()
    for record in orchard.spares():
        path = orchard.pool.path(record)
        assert (path / "made").read_text() == f"{path}\n"


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_on_a_file_system_with_reflinks_an_edit_in_place_is_not_shared(
    tmp_path: Path,
    index: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    with mounted(kind, tmp_path) as disk:
        for orchard in _orchard(tmp_path, disk / "root", index, monkeypatch):
            orchard.warm(2)
            assert orchard.has_copied()
            first, second = orchard.spares()
            assert (orchard.packages(first) / "apple.py").stat().st_nlink == 1, "not the cache's"
            with (orchard.packages(first) / "apple.py").open("a") as file:
                file.write("VERSION = 'edited'\n")
            assert "edited" not in (orchard.packages(second) / "apple.py").read_text()
        monkeypatch.setenv("JUPYTER_VOLUMES_ROOT", str(disk / "root"))
        jupyter_volumes(["doctor"])
        assert "cloned by reflinks" in capsys.readouterr().out
