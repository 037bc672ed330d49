"""Durations as people write them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.duration import EXPECTED, format_duration, parse_duration

CENTURY = timedelta(days=36525)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (90, 90),
        (0.5, 0.5),
        ("90", 90),
        (" 30m ", 1800),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("1d12h", 129600),
        ("2w", 1209600),
        ("30M", 1800),
        ("1e3", 1000),
        (timedelta(minutes=3), 180),
        (1e-9, 1e-6),
        (CENTURY, 36525 * 86400),
    ],
)
def test_durations_are_read_in_every_accepted_form(written: object, seconds: float) -> None:
    assert parse_duration(written) == timedelta(seconds=seconds)


@pytest.mark.parametrize("written", ["never", "Never", " NEVER ", None])
def test_never_is_spelled_never(written: object) -> None:
    assert parse_duration(written) is None


@pytest.mark.parametrize(
    "written",
    [
        0,
        0.0,
        "0",
        "0s",
        "0h0m",
        -1,
        "-1",
        "-5m",
        timedelta(0),
        timedelta(seconds=-1),
        True,
        False,
        "",
        " ",
        "soon",
        "30 m",
        "m30",
        "30x",
        "1h-30m",
        "inf",
        float("inf"),
        float("nan"),
        "nan",
        10**400,
        "9" * 400,
        "9" * 400 + "d",
        "101y",
        "36526d",
        1e300,
        [],
        {},
        b"30m",
    ],
    ids=repr,
)
def test_other_values_are_refused_with_the_accepted_forms(written: object) -> None:
    with pytest.raises(ValueError, match="a positive number") as caught:
        parse_duration(written)
    assert str(caught.value) == EXPECTED


@given(st.timedeltas(min_value=timedelta(microseconds=1), max_value=CENTURY))
def test_a_formatted_duration_is_read_back_to_the_second(duration: timedelta) -> None:
    again = parse_duration(format_duration(duration))
    assert again is not None
    assert abs(again - duration) <= timedelta(seconds=0.5)


@given(st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.binary()))
def test_any_value_is_read_or_refused_and_the_result_can_be_added_to_a_date(value: object) -> None:
    try:
        duration = parse_duration(value)
    except ValueError:
        return
    if duration is not None:
        assert timedelta(0) < duration <= CENTURY
        assert datetime(2026, 1, 1, tzinfo=timezone.utc) - duration


@pytest.mark.parametrize(
    ("duration", "written"),
    [
        (None, "never"),
        (timedelta(seconds=45), "45s"),
        (timedelta(minutes=30), "30m"),
        (timedelta(hours=1, minutes=30), "1h30m"),
        (timedelta(days=14), "14d"),
        (timedelta(seconds=59.7), "1m"),
        (timedelta(seconds=0.25), "0.25s"),
    ],
)
def test_a_duration_is_formatted_short(duration: timedelta | None, written: str) -> None:
    assert format_duration(duration) == written
