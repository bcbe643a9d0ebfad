"""The hourly weather of New York's airports as a dataset."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import pytest

from streams.evaluation.dataset import DatasetError
from streams.evaluation.datasets.airports import newyork

HEADER = "origin,year,month,day,hour,temp,dewp,humid,wind_dir,wind_speed,wind_gust,precip,pressure,visib,time_hour"


def row(hour: int, *, airport: str = "JFK", temp: str = "50", dewp: str = "41", wind: str = "10", pressure: str = "1012.3") -> str:
    return f"{airport},2013,1,1,{hour},{temp},{dewp},59.37,270,{wind},NA,0,{pressure},10,2013-01-01T{hour + 5:02}:00:00Z"


def weather(folder: Path, *rows: str) -> Path:
    path = folder / "weather.csv"
    path.write_text("\n".join([HEADER, *rows, ""]))
    return path


def test_the_truth_is_the_temperature_an_hour_later_in_degrees_celsius(tmp_path: Path) -> None:
    (case,) = newyork(path=weather(tmp_path, row(1), row(2, temp="68"))).cases
    assert case.observation.values == {
        "hour": 1,
        "temperature": 10.0,
        "dew_point": 5.0,
        "humidity": 59.4,
        "wind": 4.5,
        "pressure": 1012.3,
    }
    assert (case.truth, case.known_at) == (20.0, datetime(2013, 1, 1, 7, tzinfo=UTC))
    assert (case.observation.entity, case.observation.id, case.observation.time.hour) == ("JFK", "JFK-2013-01-01T06", 6)


def test_what_was_not_measured_is_left_out(tmp_path: Path) -> None:
    (case,) = newyork(path=weather(tmp_path, row(1, temp="NA", dewp="NA", pressure="NA"), row(2))).cases
    assert set(case.observation.values) == {"hour", "humidity", "wind"}


def test_a_wind_that_cannot_be_is_left_out(tmp_path: Path) -> None:
    (case,) = newyork(path=weather(tmp_path, row(1, wind="1048.36058"), row(2))).cases
    assert "wind" not in case.observation.values


def test_an_hour_without_a_next_one_has_no_truth_and_is_left_out(tmp_path: Path) -> None:
    path = weather(tmp_path, row(1), row(2), row(4), row(5, temp="NA"), row(6))
    assert [case.observation.values["hour"] for case in newyork(path=path).cases] == [1, 5]


def test_an_airports_truth_is_never_anothers(tmp_path: Path) -> None:
    path = weather(tmp_path, row(1), row(2, temp="68"), row(1, airport="EWR"), row(2, airport="EWR", temp="32"))
    assert [(case.observation.entity, case.truth) for case in newyork(path=path).cases] == [("EWR", 0.0), ("JFK", 20.0)]
    assert [case.observation.entity for case in newyork(path=path, airports=("JFK",)).cases] == ["JFK"]


def test_the_settings_are_those_of_a_run(tmp_path: Path) -> None:
    settings = newyork(path=weather(tmp_path, row(1), row(2))).configured()
    assert (settings.target.horizon, settings.target.season, settings.target.unit) == (timedelta(hours=1), 24, "°C")


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (row(2, temp="warm"), r"weather\.csv, line 3: .*'warm'"),
        (row(2, temp="inf"), "line 3: 'inf' is no measurement"),
        (row(2).replace("Z", ""), "line 3: a time needs an offset"),
        (row(1), "line 3: a second row of JFK"),
    ],
)
def test_a_line_that_cannot_be_is_told(tmp_path: Path, bad: str, said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        newyork(path=weather(tmp_path, row(1), bad))


def test_airports_and_days_that_are_not_there_are_an_error(tmp_path: Path) -> None:
    path = weather(tmp_path, row(1), row(2))
    with pytest.raises(DatasetError, match="no airport SEA"):
        newyork(airports=("SEA",), path=path)
    with pytest.raises(DatasetError, match="no hour from 2014-01-01"):
        newyork(start=date(2014, 1, 1), path=path)
    with pytest.raises(DatasetError, match="has 1 cases; 2 cannot"):
        newyork(steps=2, path=path)


@pytest.mark.integration
def test_the_year_of_three_airports_and_what_repeating_the_last_hour_gives() -> None:
    cases = newyork().cases
    assert len(cases) == 26_066
    errors = [abs(float(case.truth) - float(now)) for case in cases if (now := case.observation.values.get("temperature")) is not None]
    assert fmean(errors) == pytest.approx(0.667, abs=5e-4)
    assert all(case.observation.time <= later.observation.time for case, later in pairwise(cases))
    assert len({case.observation.id for case in cases}) == len(cases)
