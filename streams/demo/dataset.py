"""The weather of Seattle, one row a day from 2012 to 2015, as the Python package `vega_datasets` ships it.

The file is read where it lies: importing the package would import pandas, which takes a second and is needed for nothing else here.
"""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Literal

from schemas.messages import Scalar, Value
from streams import exits
from streams.errors import StreamError

#: What is forecast: the next day's maximum temperature, or its weather class.
Target = Literal["temperature", "class"]

ENTITY = "seattle"
FIELD: dict[Target, str] = {"temperature": "temp_max", "class": "weather"}
UNIT: dict[Target, str] = {"temperature": "°C", "class": ""}
LABELS = ("drizzle", "fog", "rain", "snow", "sun")
NUMBERS = ("precipitation", "temp_max", "temp_min", "wind")

#: Spring 2014 has two short warm spells (from 14 to 29 °C and back within days) and a wet week: errors that are worth a rewrite. In
#: autumn 2014 the usual class changes from sun to fog.
START: dict[Target, date] = {"temperature": date(2014, 4, 12), "class": date(2014, 9, 15)}

HORIZON = timedelta(days=1)


class DatasetError(StreamError):
    """The data are not there, or do not reach as far as was asked."""

    exit_code = exits.USAGE


@dataclass(frozen=True, slots=True)
class Day:
    """One day's weather: precipitation in mm, temperatures in °C, wind in m/s, and a class."""

    date: date
    values: dict[str, Scalar]

    @property
    def time(self) -> datetime:
        """The observation's time: midnight UTC of the day, for want of a better one."""
        return datetime.combine(self.date, time(), UTC)


@dataclass(frozen=True, slots=True)
class Question:
    """One step of the replay: what is observed on a day, and the next day's value that answers it."""

    day: Day
    truth: Value

    @property
    def id(self) -> str:
        """The observation's id."""
        return f"{ENTITY}-{self.day.date.isoformat()}"

    @property
    def target_date(self) -> date:
        return self.day.date + HORIZON


def read_days(path: Path | None = None) -> list[Day]:
    """Read the whole file, oldest day first.

    Parameters
    ----------
    path
        A file of the same form; the package's own if None.

    Raises
    ------
    DatasetError
        The package or its file is missing, or the file is of another form.
    """
    path = path or _packaged()
    try:
        with path.open(encoding="utf-8", newline="") as file:
            days = [_day(row) for row in csv.DictReader(file)]
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}. Install the package again: pip install --force-reinstall vega-datasets") from error
    except (KeyError, ValueError) as error:
        raise DatasetError(f"{path}: not the file that was expected ({type(error).__name__}: {error})") from error
    return sorted(days, key=lambda day: day.date)


def questions(days: Sequence[Day], target: Target, start: date, steps: int) -> list[Question]:
    """Choose the days to replay, each with its answer.

    Parameters
    ----------
    days
        All days, oldest first, without gaps.
    target
        What is forecast.
    start
        The first day that is observed.
    steps
        How many days are observed, at least 1; the day after the last one is needed for its answer.

    Raises
    ------
    DatasetError
        The days asked for are not all there.
    """
    if steps < 1:
        raise DatasetError(f"at least one step is needed, not {steps}")
    first, last = days[0].date, days[-1].date
    if start < first or start + steps * HORIZON > last:
        latest = last - steps * HORIZON
        allowed = f"it can start from {first} to {latest}" if latest >= first else f"there are {len(days)} days in all"
        raise DatasetError(f"the data go from {first} to {last}: {steps} steps from {start} do not fit; {allowed}")
    at = (start - first).days
    field = FIELD[target]
    return [
        Question(day, _value(after.values[field])) for day, after in zip(days[at : at + steps], days[at + 1 : at + steps + 1], strict=True)
    ]


def _packaged() -> Path:
    spec = importlib.util.find_spec("vega_datasets")
    if spec is None or not spec.submodule_search_locations:
        raise DatasetError("the package vega_datasets, which holds the data, is not installed: pip install vega-datasets")
    return Path(spec.submodule_search_locations[0]) / "_data" / "seattle-weather.csv"


def _day(row: dict[str, str]) -> Day:
    year, month, day = (int(part) for part in row["date"].split("/"))
    values: dict[str, Scalar] = {name: float(row[name]) for name in NUMBERS}
    return Day(date(year, month, day), {**values, "weather": row["weather"]})


def _value(raw: Scalar) -> Value:
    return raw if isinstance(raw, str) else float(raw)
