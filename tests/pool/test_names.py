"""What volumes are called: renamed, found again, and never led out of the root by a name."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from provisioner.core.errors import BadSession, VolumeNotFound
from provisioner.core.record import Record
from provisioner.core.session import Clues, choose
from provisioner.pool.kernels import Acquired
from provisioner.pool.pool import Pool
from provisioner.system import lease as leases
from tests.support.children import Child
from tests.support.pools import acquire, refusal, rename, wait_for


def test_a_renamed_volume_is_found_under_both_names_and_keeps_its_files(pool: Pool) -> None:
    acquired = acquire(pool, "old.ipynb")
    (acquired.path / "file").write_text("kept")
    renamed = rename(pool, "old.ipynb", "new.ipynb")
    assert renamed is not None
    assert renamed.session == "new.ipynb"
    assert '"session": "new.ipynb"' in (acquired.path / ".volume" / "record.json").read_text()
    pool.release(acquired)
    assert pool.catalog.names_of(str(acquired.path)) == {"old.ipynb", "new.ipynb"}
    assert pool.find("old.ipynb") == pool.find("new.ipynb") == pool.find(acquired.record.id)
    again = acquire(pool, "new.ipynb")
    assert again.path == acquired.path
    pool.release(again)


def test_a_new_notebook_under_a_former_name_has_a_volume_of_its_own(pool: Pool) -> None:
    first = acquire(pool, "a.ipynb")
    rename(pool, "a.ipynb", "b.ipynb")
    second = acquire(pool, "a.ipynb", "k2")
    assert second.path != first.path
    assert pool.find("a.ipynb").id == second.record.id
    pool.release(first)
    pool.release(second)


def test_a_name_in_use_is_not_taken_away(pool: Pool) -> None:
    first, second = acquire(pool, "a"), acquire(pool, "b", "k2")
    assert rename(pool, "a", "b") is None
    assert pool.find("a").id == first.record.id
    pool.release(first)
    pool.release(second)


def two_stopped(pool: Pool) -> None:
    """Make two volumes, a.ipynb and b.ipynb, each with a file that tells which it is."""
    for session in ("a.ipynb", "b.ipynb"):
        acquired = acquire(pool, session, session)
        (acquired.path / "file").write_text(session)
        pool.release(acquired)


def test_a_stopped_volume_under_the_new_name_is_moved_aside_as_often_as_it_takes(
    pool: Pool,
) -> None:
    def text(session: str) -> str:
        return (pool.path(pool.find(session)) / "file").read_text()

    two_stopped(pool)
    moved = rename(pool, "a.ipynb", "b.ipynb")
    assert moved is not None
    assert pool.find("b.ipynb").id == moved.id
    assert (text("b.ipynb"), text("b.ipynb (2)")) == ("a.ipynb", "b.ipynb")
    assert rename(pool, "b.ipynb (2)", "b.ipynb") is not None
    assert (text("b.ipynb"), text("b.ipynb (3)")) == ("b.ipynb", "a.ipynb")


def test_a_kernel_started_in_the_midst_of_a_rename_onto_its_name_has_the_volume_of_that_name(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_stopped(pool)
    lease = pool.root.layout.lease(pool.find("b.ipynb").id)
    is_up = threading.Event()

    def on_step(step: str) -> None:
        if step == "acquired":
            is_up.set()

    other = Pool(pool.settings, on_step=on_step)
    started: list[Acquired] = []
    starter = threading.Thread(target=lambda: started.append(acquire(other, "b.ipynb")))
    relabel = pool.root.registry.names.relabel

    def relabel_while_a_kernel_starts(*arguments: Any, **options: Any) -> Record | None:
        if not starter.ident:
            starter.start()
            wait_for(lambda: is_up.is_set() or leases.is_wanted(lease))
        return relabel(*arguments, **options)

    monkeypatch.setattr(pool.root.registry.names, "relabel", relabel_while_a_kernel_starts)
    assert rename(pool, "a.ipynb", "b.ipynb") is not None
    starter.join()
    assert pool.find("b.ipynb").id == started[0].record.id
    assert (started[0].path / "file").read_text() == "a.ipynb"
    aside = pool.find("b.ipynb (2)")
    assert (pool.path(aside) / "file").read_text() == "b.ipynb"
    assert not pool.leases.is_held(aside)
    other.release(started[0])
    other.close()


@pytest.mark.parametrize(
    ("step", "keeps"), [("lease", False), ("leased", True), ("files", True), ("record", True)]
)
def test_a_rename_in_the_midst_of_a_start_comes_before_it_or_not_at_all(
    pool: Pool, step: str, keeps: bool
) -> None:
    two_stopped(pool)
    renamed: list[Record | None] = []

    def on_step(name: str) -> None:
        if name == step and not renamed:
            renamed.append(rename(pool, "a.ipynb", "b.ipynb"))

    other = Pool(pool.settings, on_step=on_step)
    acquired = acquire(other, "b.ipynb")
    assert (renamed[0] is None) == keeps
    assert (acquired.path / "file").read_text() == ("b.ipynb" if keeps else "a.ipynb")
    assert pool.find("b.ipynb").id == acquired.record.id
    other.release(acquired)
    other.close()


def test_a_rename_that_is_killed_has_been_made_or_not(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_stopped(pool)

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def rename_and_die() -> None:
        monkeypatch.setattr(pool.catalog, "write_record", die)
        rename(pool, "a.ipynb", "b.ipynb")

    with Child(rename_and_die) as child:
        assert child.said() == ""
    names = {record.session for record in pool.volumes()}
    assert names in ({"a.ipynb", "b.ipynb"}, {"b.ipynb", "b.ipynb (2)"})
    acquired = acquire(pool, "b.ipynb (2)" if "b.ipynb (2)" in names else "b.ipynb")
    assert (acquired.path / "file").read_text() == "b.ipynb"
    pool.release(acquired)


def test_a_name_whose_volume_is_deleted_in_the_midst_of_a_rename_is_free(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_stopped(pool)
    gone = pool.find("b.ipynb")
    find = pool.root.registry.names.find

    def find_and_delete(session: str) -> Record | None:
        found = find(session)
        if session == "b.ipynb" and pool.root.registry.volumes.get(gone.id) is not None:
            pool.root.registry.volumes.forget(gone.id)
        return found

    monkeypatch.setattr(pool.root.registry.names, "find", find_and_delete)
    assert rename(pool, "a.ipynb", "b.ipynb") is not None
    assert pool.find("b.ipynb").id != gone.id


def test_renaming_a_volume_to_its_own_name_does_nothing(pool: Pool) -> None:
    acquired = acquire(pool, "a")
    assert rename(pool, "a", "a") == pool.find("a")
    pool.release(acquired)


@pytest.mark.parametrize("name", ["", "a\nb", "a\0b", "\ud800", "x" * 5000], ids=ascii)
def test_a_volume_cannot_be_given_a_name_that_no_session_has(pool: Pool, name: str) -> None:
    acquired = acquire(pool, "a")
    refusal(BadSession, lambda: rename(pool, "a", name))
    assert pool.find("a").id == acquired.record.id
    pool.release(acquired)


def test_a_session_unknown_is_told_with_those_that_are_near(pool: Pool) -> None:
    pool.release(acquire(pool, "report.ipynb"))
    said = refusal(VolumeNotFound, lambda: pool.find("raport.ipynb"))
    assert "did you mean 'report.ipynb'" in said
    refusal(VolumeNotFound, lambda: pool.find("\udcff\0" * 3000))


HOSTILE = [
    "",
    "a" * 10_000,
    "../../etc",
    "/etc/passwd",
    "..",
    ".",
    "a\0b",
    "a\nb",
    "🧪",
    "CON",
    "/home/somebody-else/notes.ipynb",
    "\ud800",
    "caf\udce9",
    "-rf",
    "$(reboot)",
    "*",
    "~root",
    "a" * 4096,
]


@pytest.mark.parametrize("session", HOSTILE, ids=lambda session: ascii(session[:20]))
def test_no_name_leads_out_of_the_root(pool: Pool, tmp_path: Path, session: str) -> None:
    before = sorted(p for p in tmp_path.rglob("*") if "volumes" not in p.parts)
    try:
        acquired = acquire(pool, choose(Clues("k", caller=session)).name)
    except BadSession:
        refusal(BadSession, lambda: acquire(pool, session))
        assert not pool.root.layout.root.exists() or pool.volumes() == []
        return
    assert acquired.path.parent == pool.root.layout.volumes
    assert acquired.path.name.startswith("v1-")
    (acquired.path / "file").write_text(session)
    pool.release(acquired)
    again = acquire(pool, session)
    assert (again.path / "file").read_text() == session
    pool.release(again)
    assert sorted(p for p in tmp_path.rglob("*") if "volumes" not in p.parts) == before
