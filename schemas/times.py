"""Reading times and durations as they stand in other people's payloads and in settings.

Times leave this module as timezone-aware UTC datetimes; whatever cannot be one raises `ValueError` with the text in it.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

#: Epoch numbers from here on are milliseconds: as seconds it would be the year 5138, as milliseconds it is March 1973.
MILLISECONDS_FROM = 1e11

_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|min|s|m|h|d|w)\s*")


def parse_time(raw: object) -> datetime:
    """Read a point in time.

    Parameters
    ----------
    raw
        ISO 8601 or RFC 3339 text with an offset, or epoch seconds or milliseconds as a number (told apart by size,
        `MILLISECONDS_FROM`). A `datetime` is taken if it is aware.

    Returns
    -------
    datetime
        Aware, in UTC.

    Raises
    ------
    ValueError
        No time, no offset, not finite, or outside the years 1 to 9999.

    Examples
    --------
    >>> parse_time("2024-03-01T12:00:00+02:00").isoformat()
    '2024-03-01T10:00:00+00:00'
    >>> parse_time(1690000000123).isoformat()
    '2023-07-22T04:26:40.123000+00:00'
    """
    if isinstance(raw, bool) or raw is None:
        raise ValueError(f"not a time: {raw!r}")
    if isinstance(raw, datetime):
        parsed = raw
    elif isinstance(raw, int | float):
        try:
            return datetime.fromtimestamp(raw / 1000 if abs(raw) >= MILLISECONDS_FROM else raw, UTC)
        except (ValueError, OverflowError, OSError):
            raise ValueError(f"time out of range: {raw!r}") from None
    elif isinstance(raw, str):
        text = raw.strip()
        try:
            parsed = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"not an ISO 8601 time: {text[:60]!r}") from None
    else:
        raise ValueError(f"not a time: {type(raw).__name__}")
    if parsed.tzinfo is None:
        raise ValueError(f"a time needs an offset such as Z or +01:00: {str(raw)[:60]!r}")
    try:
        return parsed.astimezone(UTC)
    except (OverflowError, ValueError):
        raise ValueError(f"time out of range: {str(raw)[:60]!r}") from None


def parse_duration(raw: object) -> timedelta:
    """Read a duration: seconds as a number, or text such as `"90s"`, `"15 min"`, `"1h 30m"`, `"1d"`, `"2w"`.

    Raises
    ------
    ValueError
        Negative, not finite, or not of that form.

    Examples
    --------
    >>> parse_duration("1h 30m").total_seconds()
    5400.0
    """
    try:
        if isinstance(raw, timedelta):
            value = raw
        elif isinstance(raw, int | float) and not isinstance(raw, bool) and math.isfinite(raw):
            value = timedelta(seconds=raw)
        elif isinstance(raw, str) and raw.strip() and _PART.sub("", raw.strip()) == "":
            value = timedelta(seconds=sum(float(n) * _UNITS[unit] for n, unit in _PART.findall(raw)))
        else:
            raise ValueError(f'not a duration: {raw!r}; write seconds as a number, or text such as "90s", "6h", "1d"')
    except OverflowError:
        raise ValueError(f"a duration of more than {timedelta.max.days} days: {str(raw)[:60]!r}") from None
    if value < timedelta(0):
        raise ValueError(f"a duration is not negative: {raw!r}")
    return value


def format_duration(value: timedelta) -> str:
    """Write a duration so that `parse_duration` reads it back: `1h`, `1d`, `90s`.

    Examples
    --------
    >>> format_duration(timedelta(days=1)), format_duration(timedelta(seconds=0.5))
    ('1d', '0.5s')
    """
    seconds = value.total_seconds()
    for unit in ("d", "h", "m"):
        if seconds >= _UNITS[unit] and seconds % _UNITS[unit] == 0:
            return f"{int(seconds // _UNITS[unit])}{unit}"
    # Not `:g`, which writes a million as 1e+06; microseconds are as fine as a timedelta gets.
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


#: A pydantic field that accepts everything `parse_time` does.
Time = Annotated[datetime, BeforeValidator(parse_time)]
#: A pydantic field that accepts everything `parse_duration` does.
Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    # Without it the JSON Schema would say ISO 8601 durations, which is what pydantic itself reads.
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": rf"^\s*({_PART.pattern})+$"}]}),
]
