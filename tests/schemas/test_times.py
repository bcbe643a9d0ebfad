"""Times and durations as they stand in other people's payloads."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from schemas.times import Duration, format_duration, parse_duration, parse_time


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("2024-03-01T12:00:00Z", "2024-03-01T12:00:00+00:00"),
        ("2024-03-01T12:00:00+02:00", "2024-03-01T10:00:00+00:00"),
        (" 2024-03-01 12:00:00.5+00:00 ", "2024-03-01T12:00:00.500000+00:00"),
        (1_690_000_000, "2023-07-22T04:26:40+00:00"),
        (1_690_000_000.25, "2023-07-22T04:26:40.250000+00:00"),
        (1_690_000_000_123, "2023-07-22T04:26:40.123000+00:00"),
        (0, "1970-01-01T00:00:00+00:00"),
        (-86_400, "1969-12-31T00:00:00+00:00"),
        (datetime(2024, 1, 1, tzinfo=UTC), "2024-01-01T00:00:00+00:00"),
    ],
)
def test_iso_rfc3339_epoch_seconds_and_milliseconds_are_read_into_utc(raw: object, expected: str) -> None:
    assert parse_time(raw).isoformat() == expected
    assert parse_time(raw).tzinfo is UTC


@pytest.mark.parametrize(
    "raw",
    [
        None,
        True,
        [],
        {},
        "",
        "yesterday",
        "2024-03-01T12:00:00",
        "99999-01-01T00:00:00Z",
        "0001-01-01T00:00:00+05:00",
        "9999-12-31T23:59:59-05:00",
        1e18,
        -1e18,
        10**400,
        float("nan"),
        float("inf"),
        datetime(2024, 1, 1),  # noqa: DTZ001 - what is refused
    ],
)
def test_what_is_no_point_in_time_is_a_value_error(raw: object) -> None:
    with pytest.raises(ValueError, match=r"time|offset"):
        parse_time(raw)


@pytest.mark.parametrize(
    ("raw", "seconds"),
    [(90, 90), (0.5, 0.5), ("90s", 90), ("15 min", 900), ("1h 30m", 5400), ("1d", 86_400), ("2w", 1_209_600), ("250ms", 0.25)],
)
def test_durations_are_seconds_or_numbers_with_units(raw: object, seconds: float) -> None:
    assert parse_duration(raw).total_seconds() == seconds


@pytest.mark.parametrize("raw", [-1, "-1h", "h", "", "1 fortnight", "1", True, None, float("nan"), [], 1e300, 10**400, "9999999999w"])
def test_what_is_no_duration_is_a_value_error_that_says_how_to_write_one(raw: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(raw)


@given(st.integers(min_value=0, max_value=10**8))
def test_a_written_duration_is_read_back_as_it_was(seconds: int) -> None:
    assert parse_duration(format_duration(timedelta(seconds=seconds))) == timedelta(seconds=seconds)


def test_a_duration_goes_through_json_in_the_form_of_a_settings_file() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(Duration)
    assert adapter.dump_json(timedelta(minutes=90)) == b'"90m"'
    assert adapter.validate_json(b'"90m"') == timedelta(minutes=90)
