from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from provisioner.pool.pool import Pool
from provisioner.settings.pool import load_settings
from tests.support.commands import Cli, make_volume
from tests.support.starts import processes_started


@pytest.fixture
def volume(cli: Cli) -> Path:
    """The volume `mine`, not hydrated yet; its kernelspec runs a script in the volume."""
    cli("kernelspec", "add", "own", "--from", "python3", "--bootstrap-command", "sh setup.sh")
    pool = Pool(load_settings())
    acquired = pool.acquire("mine", "own", kernel="earlier")
    (acquired.path / "setup.sh").write_text("touch made\n")
    pool.release(acquired)
    pool.close()
    return acquired.path


def environment(cli: Cli) -> dict[str, str]:
    """Return the text that `show` prints for each step."""
    lines = cli("show", "mine").out.splitlines()
    fields = (
        line.removeprefix("environment (").partition(")") for line in lines if "(" in line[:13]
    )
    return {step: text.strip() for step, _, text in fields}


def test_show_names_the_steps_and_when_they_were_done(cli: Cli, volume: Path) -> None:
    assert environment(cli) == {"overlay": "not hydrated yet", "bootstrap": "not hydrated yet"}
    cli("hydrate", "mine")
    shown = environment(cli)
    assert list(shown) == ["overlay", "bootstrap"]
    assert all(re.match(r"up to date, hydrated \d{4}-", text) for text in shown.values())
    described = {step["step"]: step for step in cli("show", "mine", "--json").json["environment"]}
    assert described["bootstrap"]["condition"] == "fresh"
    assert described["bootstrap"]["inputs"] == sorted(
        ["bootstrap_command", str(volume / "setup.sh")]
    )
    age = datetime.now(timezone.utc) - datetime.fromisoformat(described["overlay"]["hydrated"])
    assert timedelta(0) <= age < timedelta(minutes=10)


def test_show_names_the_changed_inputs_and_starts_no_process(cli: Cli, volume: Path) -> None:
    cli("hydrate", "mine")
    (volume / "setup.sh").write_text("touch made again\n")
    with processes_started() as started:
        shown = environment(cli)
        (_, step) = cli("show", "mine", "--json").json["environment"]
    assert started == []
    assert shown["bootstrap"].startswith(f"out of date: {volume / 'setup.sh'} changed, hydrated ")
    assert shown["overlay"].startswith("up to date")
    assert (step["condition"], step["changed"]) == ("changed", [str(volume / "setup.sh")])
    assert not (volume / "again").exists()


def test_show_names_damaged_and_interrupted_steps_and_needs_no_time(cli: Cli, volume: Path) -> None:
    cli("hydrate", "mine")
    path = volume / ".volume/hydration.json"
    records = json.loads(path.read_bytes())
    records["overlay of own"].pop("at")  # as an earlier version left it
    records["bootstrap of own"]["at"] = "long ago"
    path.write_text(json.dumps(records))
    assert environment(cli) == {"overlay": "up to date", "bootstrap": "up to date"}
    (volume / ".volume/env/bin/python").unlink()
    records["bootstrap of own"]["begun"] = True
    path.write_text(json.dumps(records))
    assert environment(cli) == {"overlay": "damaged or moved", "bootstrap": "interrupted"}


def test_show_reports_a_fault_in_the_kernelspec_beside_the_rest(
    cli: Cli, volume: Path, kernels: Path
) -> None:
    spec = kernels / "own/kernel.json"
    spec.write_text(spec.read_text().replace("bootstrap_command", "bootstrap_comand"))
    shown = cli("show", "mine")
    described = cli("show", "mine", "--json").json
    assert shown.code == 0
    assert "did you mean bootstrap_command?" in shown.out
    assert str(volume) in shown.out
    assert described["environment"] is None
    assert "did you mean" in described["environment_fault"]


def test_a_volume_without_files_has_no_environment(cli: Cli) -> None:
    acquired = make_volume("mine", file="content")
    assert environment(cli) == {"overlay": "not hydrated yet"}
    cli("backup", "mine")
    cli("prune", "mine")
    assert not acquired.path.exists()
    assert environment(cli) == {}


def test_list_names_what_makes_an_environment_out_of_date(cli: Cli, volume: Path) -> None:
    cli("hydrate", "mine")
    assert "setup.sh" not in cli("list", "--environment").out
    (volume / "setup.sh").write_text("touch made again\n")
    assert f"bootstrap: {volume / 'setup.sh'} changed" in cli("list", "--environment").out
