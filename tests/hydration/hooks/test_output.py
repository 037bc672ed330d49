"""What hooks print: told and kept by the line, without logins, however it comes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from provisioner.hydration.hooks.output import LOG_LIMIT, Output

LOGIN = "https://me:hush@127.0.0.1/simple"
WITHOUT = "https://…@127.0.0.1/simple"
PIECE = 2000
"""The characters after which a line without an end is told."""


def heard(tmp_path: Path, pieces: Iterable[bytes]) -> tuple[list[str], str]:
    """Return the lines that were told, and the log."""
    log, told = tmp_path / "log", list[str]()
    log.unlink(missing_ok=True)
    output = Output(log, told.append)
    for piece in pieces:
        output.feed(piece)
    output.close()
    assert output.tail == "\n".join(told[-30:])
    # Blank lines are no matter here: a line end of two characters may come in two pieces.
    return told, "".join(f"{line}\n" for line in log.read_text().splitlines() if line)


def test_a_login_is_left_out_wherever_the_output_is_cut(tmp_path: Path) -> None:
    text = f"one\nfrom {LOGIN} and\r\nlast {LOGIN}".encode()
    for cut in range(len(text)):
        told, log = heard(tmp_path, [text[:cut], text[cut:]])
        assert told == ["one", f"from {WITHOUT} and", f"last {WITHOUT}"]
        assert log == "\n".join([*told, ""])


def test_a_login_is_left_out_wherever_an_endless_line_is_cut(tmp_path: Path) -> None:
    for before in range(PIECE - len(LOGIN) - 2, PIECE + 3):
        text = f"{'y' * before} {LOGIN} {'n' * PIECE} {LOGIN}".encode()
        told, log = heard(tmp_path, [text[:before], text[before:]])
        for said in ("".join(told), log.replace("\n", "")):
            assert said.count(WITHOUT) == 2
            assert "hush" not in said
            assert "me:" not in said


@pytest.mark.parametrize("length", [PIECE - 20, PIECE, 2 * PIECE, 8000])
def test_a_login_longer_than_a_piece_of_a_line_is_left_out_whole(
    tmp_path: Path, length: int
) -> None:
    text = f"index https://aws:{'hush' * (length // 4)}@127.0.0.1/simple".encode()
    for pieces in ([text], [text[:100], text[100:PIECE], text[PIECE:]]):
        told, log = heard(tmp_path, pieces)
        assert "".join(told) == f"index {WITHOUT}"
        assert "hush" not in log


def test_an_address_that_never_ends_is_told_all_the_same(tmp_path: Path) -> None:
    told, log = heard(tmp_path, [b"://", *[b"z" * 4096] * (LOG_LIMIT // 4096)])
    assert len("".join(told)) == 3 + LOG_LIMIT
    assert log.endswith(f"{told[-2]}\n{told[-1]}\n")


@pytest.mark.parametrize(
    "said",
    [
        "https://me:hu@sh@127.0.0.1/simple",
        "https://me:hu/sh@127.0.0.1/simple",
        "https://hush@127.0.0.1/simple",
        "https://:hush@127.0.0.1/simple",
        "\x1b[1mhttps://me:hush@127.0.0.1/simple\x1b[0m",
        "Caused by: failed to fetch `https://me:hush@127.0.0.1/simple`",
        "git+https://me:hush@127.0.0.1/simple",
    ],
)
def test_a_login_is_found_in_whatever_form_it_is_written(tmp_path: Path, said: str) -> None:
    told, log = heard(tmp_path, [f"{said}\n".encode()])
    for text in (told[0], log):
        assert WITHOUT in text
        assert "hu" not in text
        assert "sh@" not in text


@pytest.mark.parametrize(
    "said",
    [
        "https://127.0.0.1:4873/@scope/package",
        "https://127.0.0.1/a@1.0",
        "git+https://127.0.0.1/a.git@v1",
        "Ada <ada@example.org>",
        "https://127.0.0.1/?mail=ada@example.org",
        "name @ file:///tmp/x",
    ],
)
def test_what_is_no_login_stays(tmp_path: Path, said: str) -> None:
    assert heard(tmp_path, [said.encode()])[0] == [said]


def test_the_log_has_what_was_told_and_no_more_than_its_limit(tmp_path: Path) -> None:
    lines = [f"line {n} {'x' * 90}" for n in range(3 * LOG_LIMIT // 100)]
    told, log = heard(tmp_path, ("\n".join(lines) + "\n").encode().splitlines(keepends=True))
    assert told == lines
    assert len(log) <= LOG_LIMIT
    assert log.endswith(f"{lines[-1]}\n")
