"""The commands `backup`, `backups`, `verify`, `prune`, `restore`, `pin` and `sweep`."""

from __future__ import annotations

from pathlib import Path

from provisioner.pool.pool import Pool
from provisioner.settings.pool import load_settings
from tests.support.commands import Cli, make_volume


def test_a_volume_is_pruned_and_restored_by_hand(cli: Cli, tmp_path: Path) -> None:
    path = make_volume("a", file="bytes").path
    assert cli("prune", "a").code == 1
    assert path.exists()

    (made,) = cli("backup", "--all", "--json").json
    assert cli("backup", "--all").out == "All stopped volumes are backed up.\n"
    assert made["name"] in cli("backups").out
    assert "session" in cli("backups", "--files", made["name"]).out
    assert cli("verify").code == 0

    assert cli("prune", "a").code == 0
    assert not path.exists()
    assert cli("restore", "a", "--to", str(tmp_path / "copy")).code == 0
    assert (tmp_path / "copy" / "file").read_text() == "bytes"
    assert cli("restore", "a").code == 0
    assert (path / "file").read_text() == "bytes"


def test_verify_fails_where_a_backup_is_damaged_and_names_it(cli: Cli) -> None:
    make_volume("a", file="bytes")
    (made,) = cli("backup", "a", "--json").json
    backup = Path(made["destination"], made["name"])
    content = bytearray(backup.read_bytes())
    content[len(content) // 2] ^= 1
    backup.write_bytes(content)

    verified = cli("verify")

    assert verified.code == 1
    assert made["name"] in verified.err


def test_a_pinned_volume_is_not_pruned_until_it_is_unpinned(cli: Cli) -> None:
    path = make_volume("a").path
    cli("backup", "a")
    cli("pin", "a")
    refused = cli("prune", "a")
    assert refused.code == 1
    assert "unpin" in refused.err
    assert path.exists()
    cli("unpin", "a")
    assert cli("prune", "a").code == 0


def test_the_last_backup_is_deleted_only_with_force_and_confirmation(cli: Cli) -> None:
    path = make_volume("a").path
    cli("backup", "a")
    assert cli("prune", "a", "--backups").code == 1
    assert cli("prune", "a", "--force", "--backups").code == 1, "no terminal to type the name at"
    assert path.exists()
    assert cli("prune", "a", "--force", "--backups", "--yes").code == 0
    assert not path.exists()
    pool = Pool(load_settings())
    assert pool.backups.list() == []
    assert pool.root.registry.names.find("a") is None


def test_a_dry_run_names_what_is_due_and_does_nothing(cli: Cli) -> None:
    make_volume("a")
    assert "Nothing is due." in cli("sweep", "--dry-run").out
    due = cli("sweep", "--dry-run", "--VolumePool.backup_after=0.001")
    assert "back up   a (stopped for" in due.out
    assert Pool(load_settings()).backups.list() == []
