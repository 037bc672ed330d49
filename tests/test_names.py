"""What volumes are called: renamed, found again, and never led out of the root by a name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from provisioner.errors import (
    BadSession,
    VolumeNotFound,
)
from provisioner.pool import Pool
from provisioner.session import Clues, choose

from .pools import acquire, refusal


def test_a_renamed_volume_is_found_under_both_names_and_keeps_its_files(pool: Pool) -> None:
    acquired = acquire(pool, "old.ipynb")
    (acquired.path / "file").write_text("kept")
    renamed = pool.rename("old.ipynb", "new.ipynb")
    assert renamed is not None
    assert renamed.session == "new.ipynb"
    assert '"session": "new.ipynb"' in (acquired.state_directory / "record.json").read_text()
    pool.release(acquired)
    assert pool.names_of(str(acquired.path)) == {"old.ipynb", "new.ipynb"}
    assert pool.find("old.ipynb") == pool.find("new.ipynb") == pool.find(acquired.record.id)
    again = acquire(pool, "new.ipynb")
    assert again.path == acquired.path
    pool.release(again)


def test_a_new_notebook_under_a_former_name_has_a_volume_of_its_own(pool: Pool) -> None:
    first = acquire(pool, "a.ipynb")
    pool.rename("a.ipynb", "b.ipynb")
    second = acquire(pool, "a.ipynb", "k2")
    assert second.path != first.path
    assert pool.find("a.ipynb").id == second.record.id
    pool.release(first)
    pool.release(second)


def test_a_copied_notebook_has_a_volume_of_its_own(pool: Pool) -> None:
    original = acquire(pool, "a.ipynb")
    (original.path / "file").touch()
    copy = acquire(pool, "a-Copy1.ipynb", "k2")
    assert os.listdir(copy.path) == [".volume"]
    pool.release(original)
    pool.release(copy)


def test_a_stopped_volume_under_the_new_name_is_moved_aside_not_lost(pool: Pool) -> None:
    for number, session in enumerate(("a.ipynb", "b.ipynb")):
        acquired = acquire(pool, session, f"k{number}")
        (acquired.path / "file").write_text(session)
        pool.release(acquired)
    moved = pool.rename("a.ipynb", "b.ipynb")
    assert moved is not None
    assert (pool.path(moved) / "file").read_text() == "a.ipynb"
    aside = pool.find("b.ipynb (2)")
    assert (pool.path(aside) / "file").read_text() == "b.ipynb"
    assert pool.find("b.ipynb").id == moved.id


def test_a_name_in_use_is_not_taken_away(pool: Pool) -> None:
    first, second = acquire(pool, "a"), acquire(pool, "b", "k2")
    assert pool.rename("a", "b") is None
    assert pool.find("a").id == first.record.id
    pool.release(first)
    pool.release(second)


def test_renaming_nothing_does_nothing(pool: Pool) -> None:
    assert pool.rename("none", "other") is None
    assert pool.volumes() == []
    acquired = acquire(pool, "a")
    assert pool.rename("a", "a") == pool.find("a")
    pool.release(acquired)


@pytest.mark.parametrize("name", ["", "a\nb", "a\0b", "\ud800", "x" * 5000], ids=ascii)
def test_a_volume_cannot_be_given_a_name_that_no_session_has(pool: Pool, name: str) -> None:
    acquired = acquire(pool, "a")
    refusal(BadSession, lambda: pool.rename("a", name))
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
        assert not pool.layout.root.exists() or pool.volumes() == []
        return
    assert acquired.path.parent == pool.layout.volumes
    assert acquired.path.name.startswith("v1-")
    (acquired.path / "file").write_text(session)
    pool.release(acquired)
    again = acquire(pool, session)
    assert (again.path / "file").read_text() == session
    pool.release(again)
    assert sorted(p for p in tmp_path.rglob("*") if "volumes" not in p.parts) == before
