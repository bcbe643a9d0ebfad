"""Tests of `streams.demo.dataset`."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from itertools import pairwise
from pathlib import Path

import pytest

from streams.demo.dataset import LABELS, START, DatasetError, questions, read_days


def test_the_packaged_data_are_all_days_of_four_years_without_a_gap() -> None:
    days = read_days()
    assert (days[0].date, days[-1].date, len(days)) == (date(2012, 1, 1), date(2015, 12, 31), 1461)
    assert all((later.date - day.date).days == 1 for day, later in pairwise(days))
    assert {day.values["weather"] for day in days} == set(LABELS)


def test_reading_the_data_does_not_import_pandas() -> None:
    code = "import sys; from streams.demo.dataset import read_days; read_days(); sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=False).returncode == 0


def test_the_truth_of_a_day_is_the_next_days_value() -> None:
    days = {day.date: day for day in read_days()}
    for target, field in (("temperature", "temp_max"), ("class", "weather")):
        for question in questions(read_days(), target, START[target], 72):  # type: ignore[arg-type]
            assert question.truth == days[question.target_date].values[field]


def test_each_day_has_an_id_of_its_own() -> None:
    assert len({question.id for question in questions(read_days(), "temperature", date(2014, 1, 1), 300)}) == 300


@pytest.mark.parametrize(
    ("start", "steps"), [(date(2011, 12, 31), 1), (date(2015, 12, 31), 1), (date(2014, 1, 1), 1461), (date(2014, 1, 1), 0)]
)
def test_days_that_are_not_there_are_refused(start: date, steps: int) -> None:
    with pytest.raises(DatasetError):
        questions(read_days(), "temperature", start, steps)


def test_the_last_possible_start_is_named_and_works() -> None:
    with pytest.raises(DatasetError, match="2012-01-01 to 2015-12-30"):
        questions(read_days(), "temperature", date(2016, 1, 1), 1)
    assert questions(read_days(), "temperature", date(2015, 12, 30), 1)[0].target_date == date(2015, 12, 31)


def test_a_file_of_another_form_is_named(tmp_path: Path) -> None:
    path = tmp_path / "weather.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DatasetError, match=r"weather\.csv"):
        read_days(path)
    with pytest.raises(DatasetError, match=r"nothing\.csv"):
        read_days(tmp_path / "nothing.csv")
