"""A root made by an earlier version opens and keeps all that lies in it; the names that users wrote down stay."""

from __future__ import annotations

import json
import os
import tarfile
from importlib.metadata import distribution
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import yaml
import zstandard
from prometheus_client import CollectorRegistry

import provisioner
from provisioner.core.errors import VolumeError
from provisioner.pool.pool import Pool
from provisioner.server.telemetry.metrics import Metrics
from provisioner.settings.pool import VolumePool, load_settings
from tests.old_roots.make import HOME, files_of
from tests.support.commands import Cli
from tests.support.pools import wait_for

ROOTS = Path(__file__).parent / "old_roots"
VERSIONS = sorted(path.name.removesuffix(".tar.zst") for path in ROOTS.glob("*.tar.zst"))
NAMES = json.loads((ROOTS / "names.json").read_text())
PACKAGE = Path(provisioner.__file__).parent


class Old:
    """A root of an earlier version, with Jupyter's configuration and kernelspecs of that time."""

    def __init__(self, version: str, root: Path, cli: Cli) -> None:
        about = json.loads((ROOTS / f"{version}.json").read_text())
        self.volumes: dict[str, dict[str, Any]] = about["volumes"]
        self.root = root
        self.cli = cli
        packed = (ROOTS / f"{version}.tar.zst").read_bytes()
        content = zstandard.ZstdDecompressor().decompress(packed, max_output_size=1 << 24)
        with tarfile.open(fileobj=BytesIO(content)) as tar:
            tar.extractall(root.parent, filter="tar")
        root.chmod(0o700)

    def listed(self) -> dict[str, dict[str, Any]]:
        """Return what the present version lists, by session; spares are left out."""
        called = self.cli("list", "--json")
        assert called.code == 0, called.err
        return {v["session"]: v for v in called.json if v["spare"] is None}

    def spares(self) -> list[dict[str, Any]]:
        """Return the volumes that no session has claimed."""
        return [v for v in self.cli("list", "--json").json if v["spare"] is not None]

    def acquired_files(self, session: str, kernelspec: str = "python3-volume") -> dict[str, Any]:
        """Acquire a volume as a kernel does; return the files that the kernel sees."""
        pool = Pool(load_settings())
        acquired = pool.acquire(session, kernelspec, kernel="new")
        try:
            return files_of(acquired.path)
        finally:
            pool.release(acquired)
            pool.close()


@pytest.fixture
def cli(root: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Calls `jupyter volumes` in this process."""
    return Cli(capsys)


@pytest.fixture(params=VERSIONS)
def old(request: pytest.FixtureRequest, root: Path, cli: Cli) -> Old:
    """The root of each earlier version that is kept here."""
    return Old(request.param, root, cli)


def test_every_volume_is_listed_in_its_state(old: Old) -> None:
    listed = old.listed()
    assert listed.keys() == old.volumes.keys()
    for session, expected in old.volumes.items():
        assert listed[session]["state"] == expected["state"], session
        assert listed[session]["pinned"] == expected.get("pinned", False), session
        assert listed[session]["kernelspec"] == expected.get("kernelspec", "python3-volume")
    assert [spare["kernelspec"] for spare in old.spares()] == ["hooked"]


def test_the_doctor_finds_nothing_that_was_lost(old: Old) -> None:
    called = old.cli("doctor", "--json")
    assert called.code == 0, called.out


def test_a_renamed_notebook_is_found_under_both_names(old: Old) -> None:
    renamed = {s: v["former"] for s, v in old.volumes.items() if "former" in v}
    assert renamed
    for session, former in renamed.items():
        assert old.cli("show", "--json", session).json["session"] == session
        assert old.cli("show", "--json", former).json["session"] == session


def test_every_volume_is_acquired_with_the_files_that_it_had(old: Old) -> None:
    for session, expected in old.volumes.items():
        files = old.acquired_files(session, expected.get("kernelspec", "python3-volume"))
        assert files == expected["files"], session


def test_a_pruned_volume_is_restored_from_each_of_its_backups(old: Old, tmp_path: Path) -> None:
    session, expected = f"{HOME}/pruned.ipynb", old.volumes[f"{HOME}/pruned.ipynb"]
    first = expected["first_backup"]
    called = old.cli("restore", session, "--backup", first, "--to", tmp_path / "first")
    assert called.code == 0, called.err
    assert "1,first" in (tmp_path / "first/results.csv").read_text()
    called = old.cli("restore", session)
    assert called.code == 0, called.err
    path = Path(old.listed()[session]["path"])
    assert files_of(path) == expected["files"]


def test_every_backup_is_whole_and_the_partial_one_counts_as_none(old: Old) -> None:
    called = old.cli("verify")
    assert called.code == 0, called.err
    backups = old.cli("backups", "--json").json
    partial = [s for s, v in old.volumes.items() if v.get("partial")]
    assert len(partial) == sum(backup["partial"] for backup in backups) == 1
    assert not old.listed()[partial[0]]["backed_up"]
    assert old.cli("prune", partial[0]).code == 1


def test_a_spare_is_claimed_by_a_new_session(old: Old) -> None:
    (spare,) = old.spares()
    files = old.acquired_files(f"{HOME}/new.ipynb", spare["kernelspec"])
    assert list(files) == ["prepared.txt"]
    assert old.listed()[f"{HOME}/new.ipynb"]["id"] == spare["id"]
    assert old.spares() == []


def test_what_was_hydrated_is_not_hydrated_again(old: Old) -> None:
    session = f"{HOME}/hydrated.ipynb"
    called = old.cli("hydrate", session)
    assert called.code == 0, called.err
    path = Path(old.listed()[session]["path"])
    assert (path / "prepared.txt").read_text() == "prepared\n"
    assert files_of(path) == old.volumes[session]["files"]


def test_sweeps_lose_nothing_and_follow_each_kernelspecs_policy(old: Old) -> None:
    for _ in range(3):
        called = old.cli("sweep", "--json")
        assert called.code == 0, called.out + called.err
    listed = old.listed()
    on_disk = {session for session, volume in listed.items() if volume["state"] != "pruned"}
    # Nine months and more after the last use, all is pruned that may be.
    assert {f"{HOME}/pinned.ipynb", f"{HOME}/gpu.ipynb"} <= on_disk
    assert {f"{HOME}/Übung 1.ipynb", f"{HOME}/notes/final.ipynb"}.isdisjoint(on_disk)
    # The one whose process ended without a word counts as stopped from the first sweep on.
    waiting = {session for session, volume in listed.items() if not volume["backed_up"]}
    assert waiting <= {f"{HOME}/active.ipynb"}
    test_every_volume_is_acquired_with_the_files_that_it_had(old)


def test_a_lost_table_is_rebuilt_from_what_lies_on_disk(old: Old) -> None:
    before = old.listed()
    (old.root / "registry.sqlite3").unlink()
    after = old.listed()
    for session, volume in before.items():
        for what in ("id", "state", "kernelspec", "pinned"):
            assert after[session][what] == volume[what], (session, what)
    test_every_volume_is_acquired_with_the_files_that_it_had(old)


# -- names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES["settings"])
def test_a_setting_is_read_under_the_name_it_had(name: str, root: Path) -> None:
    # This variable is stronger than the setting of the root.
    os.environ.pop("JUPYTER_VOLUMES_ROOT")
    path = Path(os.environ["JUPYTER_CONFIG_DIR"]) / "jupyter_volumes_config.json"
    path.write_text(json.dumps({"VolumePool": {name: NAMES["settings"][name]}}))
    assert getattr(load_settings(), name) != getattr(VolumePool(), name)


@pytest.mark.parametrize("options", ["kernelspec_options", "kernelspec_options_for_uv"])
def test_kernel_json_is_read_with_the_options_it_had(options: str, cli: Cli) -> None:
    assert stanza_faults(cli, NAMES[options]) == []
    assert stanza_faults(cli, {**NAMES[options], "no_such_option": 1}) != []


@pytest.mark.parametrize("command", NAMES["commands"])
def test_a_command_takes_the_arguments_it_took(command: str, cli: Cli) -> None:
    called = cli(*command.split(), "--help")
    assert called.code == 0, called.err
    missing = [name for name in NAMES["commands"][command] if name not in called.out]
    assert missing == []


def test_what_scripts_read_of_a_volume_keeps_its_keys(old: Old) -> None:
    assert set(NAMES["listed"]) <= set(old.cli("list", "--json").json[0])


def test_the_rest_interface_keeps_its_operations_and_fields() -> None:
    (described,) = PACKAGE.rglob("openapi.yaml")
    content = yaml.safe_load(described.read_text())
    operations = {
        f"{method.upper()} {path}" for path, item in content["paths"].items() for method in item
    }
    assert set(NAMES["rest"]) <= operations
    for schema, fields in NAMES["rest_schemas"].items():
        assert set(fields) <= set(content["components"]["schemas"][schema]["properties"]), schema


def test_metrics_keep_their_names(old: Old) -> None:
    pool = Pool(VolumePool(root=str(old.root)))
    metrics = Metrics(pool, CollectorRegistry())
    try:
        # The gauges are read in a thread; the first look finds none.
        wait_for(lambda: set(NAMES["metrics"]) <= {family.name for family in metrics.collect()})
    finally:
        metrics.close()


def test_events_keep_their_names() -> None:
    written = "".join(
        path.read_text() for kind in ("py", "yaml") for path in PACKAGE.rglob(f"*.{kind}")
    )
    assert [name for name in NAMES["events"] if f"{name}\n" not in written] == []


def test_refusals_keep_their_codes() -> None:
    kinds, codes = [VolumeError], set()
    while kinds:
        kind = kinds.pop()
        codes.add(kind.code)
        kinds += kind.__subclasses__()
    assert set(NAMES["refusals"]) <= codes


def test_entry_points_keep_their_names() -> None:
    declared = {(entry.group, entry.name) for entry in distribution("jupyter-volumes").entry_points}
    assert set(NAMES["entry_points"].items()) <= declared


def stanza_faults(cli: Cli, options: dict[str, Any]) -> list[Any]:
    """Return what the doctor says of a kernelspec with these options in its kernel.json."""
    spec = json.loads((PACKAGE.parent / "kernelspecs/python3-volume/kernel.json").read_text())
    spec["metadata"]["kernel_provisioner"]["config"] = options
    directory = Path(os.environ["JUPYTER_DATA_DIR"], "kernels/old-names")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "kernel.json").write_text(json.dumps(spec))
    findings = cli("doctor", "--json").json["findings"]
    return [f for f in findings if f["level"] == "bad" and "old-names" in f["said"]]
