"""The session of a kernel, chosen from what is known when it starts."""

from __future__ import annotations

import pytest

from provisioner.core.errors import BadSession
from provisioner.core.session import (
    MAX_NAME_BYTES,
    NOTEBOOK_VARIABLE,
    SERVER_VARIABLE,
    SESSION_VARIABLE,
    VOLUME_VARIABLE,
    Clues,
    Session,
    Source,
    caller_session,
    checked,
    choose,
    server_path,
    without_backing_suffix,
)

UUID = "8c0b7c6e-5d1e-4b5e-9f43-0d2a6c1b7e55"


@pytest.mark.parametrize(
    ("clues", "expected"),
    [
        (Clues("k", "c", "m", "/n.ipynb"), Session("c", Source.CALLER)),
        (Clues("k", None, "m", "/n.ipynb"), Session("m", Source.METADATA)),
        (Clues("k", None, None, "/n.ipynb"), Session("/n.ipynb", Source.NOTEBOOK)),
        (Clues("k"), Session("kernel:k", Source.KERNEL)),
    ],
)
def test_the_strongest_clue_names_the_session(clues: Clues, expected: Session) -> None:
    assert choose(clues) == expected


@pytest.mark.parametrize(
    ("clues", "origin"),
    [
        (Clues("k", "", "m", "/n.ipynb"), SESSION_VARIABLE),
        (Clues("k", None, 7, "/n.ipynb"), "metadata.volume.session"),
        (Clues("k", None, None, "/a\0.ipynb"), "the notebook's path"),
        (Clues("k" * 5000), "the kernel's id"),
    ],
)
def test_a_bad_clue_is_refused_and_no_weaker_one_takes_its_place(clues: Clues, origin: str) -> None:
    with pytest.raises(BadSession) as caught:
        choose(clues)
    assert origin in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "   ",
        "\u3000",
        "a" * 10_000,
        "🧪" * (MAX_NAME_BYTES // 4 + 1),
        "a\0b",
        "a\nb",
        "a\rb",
        "a\x1b[31mb",
        "a\x85b",
        "a\u2028b",
        "a\ud800b",
        "caf\udce9.ipynb",
        None,
        b"bytes",
        ["list"],
        {"a": 1},
        True,
    ],
    ids=repr,
)
def test_a_name_that_cannot_be_stored_or_shown_is_refused_in_one_line(name: object) -> None:
    with pytest.raises(BadSession) as caught:
        checked(name, "the caller")
    said = str(caught.value)
    assert said.isprintable(), "the refusal itself would break a terminal"
    assert said.startswith("The session named by the caller")
    assert len(said) < 400
    said.encode()


@pytest.mark.parametrize(
    "name",
    [
        "../../etc",
        "/home/somebody-else/notes.ipynb",
        "CON",
        "a" * MAX_NAME_BYTES,
        "%2e%2e/",
        "; rm -rf /",
        "x'; DROP TABLE volumes; --",
        "🧪",
        "👨‍👩‍👧 family.ipynb",  # joined by U+200D
        "報告　最終.ipynb",  # a full-width space
        "می‌خواهم.ipynb",  # U+200C, as Persian is written
        "non\u00a0breaking.ipynb",
        "unassigned \U0001fae9.ipynb",  # newer than the tables of some Pythons
        " leading and trailing ",
    ],
)
def test_any_usual_file_name_is_accepted_unchanged(name: str) -> None:
    assert checked(name, "the caller") == name


def test_only_a_session_inherited_from_a_surrounding_kernel_is_ignored() -> None:
    assert caller_session({SESSION_VARIABLE: "outer"}, {"outer", "earlier"}) is None
    assert caller_session({SESSION_VARIABLE: "earlier"}, {"outer", "earlier"}) is None
    assert caller_session({SESSION_VARIABLE: "mine"}, {"outer"}) == "mine"
    assert caller_session({SESSION_VARIABLE: "mine"}, ()) == "mine"
    assert caller_session({}, {"outer"}) is None


def test_an_inherited_notebook_path_is_ignored() -> None:
    inherited = {SERVER_VARIABLE: "/n.ipynb", VOLUME_VARIABLE: "/v"}
    assert server_path({SERVER_VARIABLE: "/n.ipynb"}, inherited) is None
    assert server_path({SERVER_VARIABLE: "/other.ipynb"}, inherited) == "/other.ipynb"
    assert server_path({SERVER_VARIABLE: "/n.ipynb"}, {}) == "/n.ipynb"
    assert server_path({SERVER_VARIABLE: ""}, {}) is None
    assert server_path({NOTEBOOK_VARIABLE: "n.ipynb"}, {}) is None


@pytest.mark.parametrize(
    ("path", "notebook"),
    [
        (f"/w/a-jvsc-{UUID}{UUID.replace('-', '')}.ipynb", "/w/a.ipynb"),
        (f"/w/a-{UUID}.ipynb", "/w/a.ipynb"),
        ("/w/a.ipynb", "/w/a.ipynb"),
        (f"/w/a-{UUID}.txt", f"/w/a-{UUID}.txt"),
        ("/w/a-b-c.ipynb", "/w/a-b-c.ipynb"),
    ],
)
def test_a_backing_file_stands_for_its_notebook(path: str, notebook: str) -> None:
    assert without_backing_suffix(path) == notebook
