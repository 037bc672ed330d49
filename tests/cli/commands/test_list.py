from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

from provisioner.cli.commands.list import columns
from provisioner.core.record import Spare
from provisioner.pool.pool import Pool
from provisioner.settings.pool import load_settings
from tests.support.commands import Cli, make_volume


def test_list_says_that_a_pool_is_empty(cli: Cli, root: Path) -> None:
    assert cli("list").out == f"No volumes yet under {root}.\n"
    assert cli("list", "--json").json == []


def test_a_line_shows_session_state_age_and_kernelspec(cli: Cli) -> None:
    make_volume("b")
    make_volume("a")

    heading, *lines = cli("list").out.splitlines()

    assert heading.split()[:4] == ["SESSION", "STATE", "SINCE", "KERNELSPEC"]
    assert [line.split()[:2] for line in lines] == [["a", "stopped"], ["b", "stopped"]]
    assert all("ago  python3-volume" in line for line in lines)


def test_list_shows_when_each_volume_is_backed_up_and_pruned(cli: Cli) -> None:
    make_volume("a")
    kept = make_volume("kept")
    pool = Pool(load_settings())
    pool.catalog.pin(kept.record.id, True)

    _, first, second = cli("list").out.splitlines()
    listed = cli("list", "--json").json[0]

    assert "in 10m" in first
    assert first.endswith("in 14d")
    assert "never (pinned)" in second
    assert listed["backed_up"] is False
    assert listed["backup_due"] < listed["prune_due"]


def test_a_held_volume_names_its_holder(cli: Cli) -> None:
    pool = Pool(load_settings())
    held = pool.acquire("mine", "python3-volume", kernel="kernel-1")
    pool.kernel_is_up(held, 4711)

    (listed,) = cli("list", "--json").json
    line = cli("list").out.splitlines()[1]
    shown = cli("show", "mine").out
    pool.release(held)

    assert listed["state"] == "active"
    assert listed["holder"]["kernels"] == ["kernel-1"]
    assert listed["holder"]["processes"] == [4711]
    assert "kernel (process 4711 on " in line
    assert "kernel kernel-1 of process" in shown
    assert cli("list", "--json").json[0]["holder"] is None


def test_json_has_everything_that_is_known(cli: Cli, root: Path) -> None:
    acquired = make_volume("a")

    (listed,) = cli("list", "--json").json

    assert listed["session"] == "a"
    assert listed["id"] == acquired.record.id
    assert listed["path"] == str(root / "volumes" / acquired.record.id)
    assert datetime.fromisoformat(listed["created"]).tzinfo is not None
    shown = cli("show", "a", "--json").json
    assert [step["step"] for step in shown.pop("environment")] == ["overlay"]
    assert listed == shown


def test_pins_notes_and_sizes_show_where_there_are_any(cli: Cli) -> None:
    acquired = make_volume("a")
    pool = Pool(load_settings())
    pool.root.registry.volumes.set_pinned(acquired.record.id, True)
    pool.root.registry.volumes.set_note(acquired.record.id, "the notebook was deleted")
    pool.root.registry.volumes.set_bytes(acquired.record.id, 2_340_000)

    heading, line = cli("list").out.splitlines()

    assert {"SIZE", "NOTE"} <= set(heading.split())
    assert "2.3 MB" in line
    assert "pinned" in line
    assert line.endswith("the notebook was deleted")


def test_a_spare_is_listed_as_one_and_its_state_since_the_stop(cli: Cli) -> None:
    make_volume("a")
    pool = Pool(load_settings())
    record = replace(pool.find("a"), spare=Spare.READY)
    now = datetime.now(timezone.utc) + timedelta(hours=5)

    shown = {column.title: column.text(record) for column in columns(pool, now)}

    assert (shown["NOTE"], shown["SINCE"]) == ("spare", "5h ago")
