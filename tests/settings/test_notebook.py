"""Finding the notebook of a kernel, and reading its metadata."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from provisioner.core.errors import BadSession
from provisioner.core.session import (
    NOTEBOOK_VARIABLE,
    SERVER_VARIABLE,
    SESSION_VARIABLE,
    VOLUME_VARIABLE,
    Clues,
    choose,
)
from provisioner.settings.notebook import canonical, gather, locate, volume_metadata

UUID = "8c0b7c6e-5d1e-4b5e-9f43-0d2a6c1b7e55"


def write(path: Path, metadata: object) -> Path:
    """Write a notebook with this metadata."""
    path.write_text(json.dumps({"cells": [], "metadata": metadata, "nbformat": 4}))
    return path


def test_a_session_named_by_the_caller_comes_before_the_notebook(tmp_path: Path) -> None:
    notebook = write(tmp_path / "a.ipynb", {"volume": {"session": "m"}})
    env = {SESSION_VARIABLE: "c", SERVER_VARIABLE: str(notebook)}
    assert gather("k", env, {}, ()) == Clues("k", caller="c")


def test_metadata_and_path_of_the_servers_notebook_are_clues(tmp_path: Path) -> None:
    notebook = write(tmp_path / "a.ipynb", {"volume": {"session": "m"}})
    clues = gather("k", {SERVER_VARIABLE: str(notebook)}, {}, ())
    assert clues == Clues("k", metadata="m", notebook=str(notebook))


def test_a_kernel_without_a_notebook_has_only_its_id() -> None:
    assert gather("k", {}, {}, ()) == Clues("k")


def test_a_nested_run_does_not_request_the_surrounding_volume(tmp_path: Path) -> None:
    notebook = write(tmp_path / "a.ipynb", {})
    inherited = {
        SESSION_VARIABLE: str(notebook),
        SERVER_VARIABLE: str(notebook),
        VOLUME_VARIABLE: "/srv/volumes/v1-0",
    }
    assert gather("k", inherited, inherited, {str(notebook)}) == Clues("k")


def test_a_notebook_reached_through_links_is_one_notebook(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    write(real / "a.ipynb", {})
    (tmp_path / "link").symlink_to(real)
    (real / "b.ipynb").symlink_to("a.ipynb")
    for path in ("link/a.ipynb", "real/b.ipynb", "real/../link/b.ipynb"):
        assert locate({SERVER_VARIABLE: f"{tmp_path}/{path}"}, {}) == str(real / "a.ipynb")


def test_a_notebook_not_saved_yet_has_its_path(tmp_path: Path) -> None:
    path = str(tmp_path / "new.ipynb")
    assert locate({SERVER_VARIABLE: path}, {}) == path


def test_a_console_has_a_path_but_no_notebook(tmp_path: Path) -> None:
    assert locate({SERVER_VARIABLE: str(tmp_path / "Console 1")}, {}) is None


def test_a_script_that_is_a_file_is_a_notebook_too(tmp_path: Path) -> None:
    script = tmp_path / "paired.py"
    script.touch()
    assert locate({SERVER_VARIABLE: str(script)}, {}) == str(script)


def test_a_backing_file_that_does_not_exist_stands_for_its_notebook(tmp_path: Path) -> None:
    notebook = write(tmp_path / "a.ipynb", {})
    assert locate({SERVER_VARIABLE: str(tmp_path / f"a-jvsc-{UUID}.ipynb")}, {}) == str(notebook)


def test_a_notebook_that_really_has_such_a_name_keeps_it(tmp_path: Path) -> None:
    own = write(tmp_path / f"a-{UUID}.ipynb", {})
    assert locate({SERVER_VARIABLE: str(own)}, {}) == str(own)


@pytest.mark.parametrize(
    ("told", "session"),
    [
        ("s3:bucket/a/n.ipynb", "s3:bucket/a/n.ipynb"),
        ("s3:bucket/a:b.ipynb", "s3:bucket/a:b.ipynb"),
        ("RTC:n.ipynb", None),
        ("RTC:a:b.ipynb", None),
        ("n.ipynb", None),
        ("", None),
        ("sub/12:30.ipynb", None),
    ],
)
def test_only_a_remote_drive_makes_a_session_of_its_own(
    tmp_path: Path, told: str, session: str | None
) -> None:
    local = write(tmp_path / "n.ipynb", {})
    env = {NOTEBOOK_VARIABLE: told, SERVER_VARIABLE: str(local)}
    assert locate(env, {}) == (session or str(local))


@pytest.mark.parametrize("name", ["a\0b.ipynb", "a\ud800b.ipynb", "a\nb.ipynb"], ids=ascii)
def test_a_path_that_no_file_can_have_is_refused_not_a_crash(tmp_path: Path, name: str) -> None:
    clues = gather("k", {SERVER_VARIABLE: f"{tmp_path}/{name}"}, {}, ())
    with pytest.raises(BadSession, match="the notebook's path"):
        choose(clues)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b'"volume"',
        b'["volume"]',
        b'{"metadata": ["volume"]}',
        b'{"metadata": {"volume": "s"}}',
        b'{"metadata": {"volume": null}}',
        b'{"cells": ["volume"]}',
        b'{"metadata": {"volume": {"session": "s"}}',
        b'\xff\xfe"volume"',
        b'{"volume": ' + b"[" * 100_000,
    ],
    ids=lambda content: repr(content[:40]),
)
def test_a_notebook_that_cannot_be_read_requests_nothing(tmp_path: Path, content: bytes) -> None:
    notebook = tmp_path / "a.ipynb"
    notebook.write_bytes(content)
    assert volume_metadata(str(notebook)) == {}
    clues = gather("k", {SERVER_VARIABLE: str(notebook)}, {}, ())
    assert choose(clues).name == str(notebook)


def test_a_pipe_with_the_name_of_a_notebook_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.ipynb")
    assert volume_metadata(str(tmp_path / "a.ipynb")) == {}


def test_a_huge_notebook_is_not_read(tmp_path: Path) -> None:
    notebook = tmp_path / "a.ipynb"
    with notebook.open("wb") as file:
        file.write(b'{"metadata": {"volume": {"session": "s"}}}')
        file.truncate(513 * 1024 * 1024)
    assert volume_metadata(str(notebook)) == {}


def test_a_directory_and_a_missing_notebook_request_nothing(tmp_path: Path) -> None:
    assert volume_metadata(str(tmp_path)) == {}
    assert volume_metadata(str(tmp_path / "none.ipynb")) == {}
    assert canonical(tmp_path / "none.ipynb") == str(tmp_path / "none.ipynb")
