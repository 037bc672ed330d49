from __future__ import annotations

import os
import sys
from datetime import datetime, timedelta, timezone

import pytest

from provisioner.cli.output import terminal
from provisioner.cli.output.terminal import Column, ago, print_table, size, until, width

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("age", "said"),
    [
        (timedelta(seconds=-3), "0s ago"),
        (timedelta(seconds=59), "59s ago"),
        (timedelta(seconds=60), "1m ago"),
        (timedelta(hours=23, minutes=59), "23h ago"),
        (timedelta(days=400), "400d ago"),
    ],
)
def test_an_age_is_shown_in_the_largest_unit_that_fits(age: timedelta, said: str) -> None:
    assert ago(NOW - age, NOW) == said


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (None, ""),
        (timedelta(0), "due"),
        (timedelta(seconds=0.2), "in 0s"),
        (timedelta(seconds=59.4), "in 59s"),
        (timedelta(seconds=59.6), "in 1m"),
        (timedelta(minutes=9, seconds=59.9), "in 10m"),
        (timedelta(minutes=9, seconds=29), "in 9m"),
        (timedelta(minutes=59, seconds=40), "in 1h"),
        (timedelta(hours=23, minutes=20), "in 23h"),
        (timedelta(hours=23, minutes=40), "in 1d"),
        (timedelta(days=13, hours=23, minutes=59), "in 14d"),
    ],
)
def test_a_remaining_time_is_rounded_to_the_nearest_unit(left: timedelta | None, said: str) -> None:
    assert until(None if left is None else NOW + left, NOW) == said


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (None, ""), (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_500_000, "1.5 MB"),
        (99_999_999, "100 MB"), (10**13, "10.0 TB"),
    ],
)  # fmt: skip
def test_a_size_is_shown_in_decimal_units(count: int | None, said: str) -> None:
    assert size(count) == said


@pytest.mark.parametrize(("text", "cells"), [("abc", 3), ("日本", 4), ("e\u0301", 1), ("🦀", 2)])
def test_wide_and_combining_characters_are_counted_as_the_cells_they_take(
    text: str, cells: int
) -> None:
    assert width(text) == cells


def test_columns_line_up_and_empty_ones_are_omitted(capsys: pytest.CaptureFixture[str]) -> None:
    columns = [
        Column[tuple[str, int]]("NAME", lambda row: row[0]),
        Column[tuple[str, int]]("N", lambda row: str(row[1]), align="right"),
        Column[tuple[str, int]]("NEVER", lambda row: ""),
    ]
    print_table(columns, [("日本", 1), ("abcdef", 100)])

    assert capsys.readouterr().out == "NAME      N\n日本      1\nabcdef  100\n"


@pytest.mark.parametrize(
    ("session", "room", "lines"),
    [
        (
            "/home/me/notebooks/analysis.ipynb",
            30,
            ["SESSION                STATE", "…books/analysis.ipynb  stopped"],
        ),
        ("a", 5, ["SESSION  STATE", "a        stopped"]),
    ],
)
def test_a_narrow_terminal_cuts_the_beginning_of_a_path_but_widens_nothing(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    session: str,
    room: int,
    lines: list[str],
) -> None:
    monkeypatch.setattr(terminal, "is_terminal", lambda stream: True)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((room, 20)))
    monkeypatch.setenv("NO_COLOR", "1")
    columns = [
        Column[str]("SESSION", lambda row: row, shrinks=True),
        Column[str]("STATE", lambda row: "stopped"),
    ]
    print_table(columns, [session])

    assert capsys.readouterr().out.splitlines() == lines


def test_a_pipe_gets_whole_texts(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([Column[str]("SESSION", lambda row: row, shrinks=True)], ["x" * 500])

    assert "x" * 500 in capsys.readouterr().out
    assert "\x1b" not in capsys.readouterr().out
    assert not terminal.is_terminal(sys.stdout)
