"""The output of hooks: reported and logged line by line, without logins, in whatever pieces it is read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from provisioner.hydration.hooks.output import LOG_LIMIT, Output

LOGIN = "https://me:hush@127.0.0.1/simple"
WITHOUT = "https://…@127.0.0.1/simple"
PIECE = 2000
"""The characters after which an unfinished line is reported."""


def collected(tmp_path: Path, pieces: Iterable[bytes]) -> tuple[list[str], str]:
    """Return the reported lines and the log."""
    log, reported = tmp_path / "log", list[str]()
    log.unlink(missing_ok=True)
    output = Output(log, reported.append)
    for piece in pieces:
        output.feed(piece)
    output.close()
    assert output.tail == "\n".join(reported[-30:])
    # Blank lines are ignored: a line end of two characters may be read in two pieces.
    return reported, "".join(f"{line}\n" for line in log.read_text().splitlines() if line)


def test_a_login_is_removed_wherever_the_output_is_split(tmp_path: Path) -> None:
    text = f"one\nfrom {LOGIN} and\r\nlast {LOGIN}".encode()
    for cut in range(len(text)):
        reported, log = collected(tmp_path, [text[:cut], text[cut:]])
        assert reported == ["one", f"from {WITHOUT} and", f"last {WITHOUT}"]
        assert log == "\n".join([*reported, ""])


def test_a_login_is_removed_wherever_an_endless_line_is_split(tmp_path: Path) -> None:
    for before in range(PIECE - len(LOGIN) - 2, PIECE + 3):
        text = f"{'y' * before} {LOGIN} {'n' * PIECE} {LOGIN}".encode()
        reported, log = collected(tmp_path, [text[:before], text[before:]])
        for said in ("".join(reported), log.replace("\n", "")):
            assert said.count(WITHOUT) == 2
            assert "hush" not in said
            assert "me:" not in said


@pytest.mark.parametrize("length", [PIECE - 20, PIECE, 2 * PIECE, 8000])
def test_a_login_longer_than_a_piece_of_a_line_is_removed_whole(
    tmp_path: Path, length: int
) -> None:
    text = f"index https://aws:{'hush' * (length // 4)}@127.0.0.1/simple".encode()
    for pieces in ([text], [text[:100], text[100:PIECE], text[PIECE:]]):
        reported, log = collected(tmp_path, pieces)
        assert "".join(reported) == f"index {WITHOUT}"
        assert "hush" not in log


def test_progress_bars_and_endless_lines_are_split(tmp_path: Path) -> None:
    reported, _ = collected(tmp_path, [b"10%\r20%\r", b"y" * 9000])
    assert reported[:2] == ["10%", "20%"]
    assert "".join(reported[2:]) == "y" * 9000


def test_an_address_that_never_ends_is_reported_nevertheless(tmp_path: Path) -> None:
    reported, log = collected(tmp_path, [b"://", *[b"z" * 4096] * (LOG_LIMIT // 4096)])
    assert len("".join(reported)) == 3 + LOG_LIMIT
    assert log.endswith(f"{reported[-2]}\n{reported[-1]}\n")


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
def test_a_login_is_removed_in_every_form(tmp_path: Path, said: str) -> None:
    reported, log = collected(tmp_path, [f"{said}\n".encode()])
    for text in (reported[0], log):
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
def test_a_text_without_a_login_is_unchanged(tmp_path: Path, said: str) -> None:
    assert collected(tmp_path, [said.encode()])[0] == [said]


def test_the_log_has_the_reported_lines_and_stays_within_its_limit(tmp_path: Path) -> None:
    lines = [f"line {n} {'x' * 90}" for n in range(3 * LOG_LIMIT // 100)]
    reported, log = collected(
        tmp_path, ("\n".join(lines) + "\n").encode().splitlines(keepends=True)
    )
    assert reported == lines
    assert len(log) <= LOG_LIMIT
    assert log.endswith(f"{lines[-1]}\n")
