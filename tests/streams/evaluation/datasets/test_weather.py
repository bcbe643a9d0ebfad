"""The daily weather of Seattle as a dataset."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from statistics import fmean

import pytest

from streams.demo.dataset import Target
from streams.evaluation.dataset import Dataset, DatasetError
from streams.evaluation.datasets.weather import seattle

#: The first day with a year of others before it: from here on every naive forecaster has what it needs.
A_YEAR_IN = date(2012, 12, 31)


def test_repeating_todays_class_is_right_on_two_days_of_three() -> None:
    dataset = seattle("class", start=A_YEAR_IN)
    assert len(dataset.cases) == 1095
    assert fmean(case.observation.values["weather"] == case.truth for case in dataset.cases) == pytest.approx(0.667, abs=5e-4)


def test_repeating_todays_temperature_is_off_by_a_little_over_two_degrees() -> None:
    dataset = seattle("temperature", start=A_YEAR_IN)
    assert len(dataset.cases) == 1095
    assert fmean(abs(float(case.truth) - float(case.observation.values["temp_max"])) for case in dataset.cases) == pytest.approx(
        2.23, abs=5e-3
    )


@pytest.mark.parametrize("target", ["class", "temperature"])
def test_the_settings_are_those_of_a_run_and_name_a_field_that_is_observed(target: Target) -> None:
    dataset = seattle(target, steps=3)
    settings = dataset.configured()
    assert settings.target.horizon == timedelta(days=1)
    assert settings.target.field in dataset.cases[0].observation.values
    assert (dataset.name, dataset.learnable) == (f"seattle-{target}", False)


def test_every_class_that_comes_is_a_label() -> None:
    dataset = seattle("class")
    assert {case.truth for case in dataset.cases} == set(dataset.configured().target.labels)


def test_a_truth_is_known_when_the_next_day_is_observed() -> None:
    dataset = seattle("class", start=date(2014, 3, 1), steps=2)
    assert [case.known_at for case in dataset.cases] == [datetime(2014, 3, 2, tzinfo=UTC), datetime(2014, 3, 3, tzinfo=UTC)]
    assert dataset.cases[0].truth == dataset.cases[1].observation.values["weather"]
    assert dataset.cases[0].observation.id == "seattle-2014-03-01"


def test_without_a_start_and_a_number_of_steps_all_days_are_taken() -> None:
    dataset: Dataset = seattle("temperature")
    assert len(dataset.cases) == 1460
    assert dataset.cases[0].observation.time == datetime(2012, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("start", "steps"), [(date(2016, 1, 1), 1), (date(2016, 1, 1), None), (date(2015, 12, 31), None), (None, 0), (None, 1461)]
)
def test_days_that_are_not_there_are_an_error(start: date | None, steps: int | None) -> None:
    with pytest.raises(DatasetError):
        seattle("class", start=start, steps=steps)
