"""Naive forecasters: what each says, what they take in, and that no number breaks them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.experts import WINDOW, forecasts, names, ranked, update
from schemas.codec import encode
from schemas.messages import Value
from schemas.settings import TargetSettings
from schemas.state import ExpertsState

START = datetime(2024, 1, 1, tzinfo=UTC)
NUMBER = TargetSettings()
SEASONED = TargetSettings(season=9)
LABEL = TargetSettings(kind="category", labels=("rain", "fog", "sun"))
TEXT = TargetSettings(kind="text")
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


def after(values: Iterable[Value], target: TargetSettings) -> ExpertsState:
    state = ExpertsState()
    for day, value in enumerate(values):
        state = update(state, value, START + timedelta(days=day), target)
    return state


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (NUMBER, ("persistence", "drift", "mean", "moving-mean")),
        (SEASONED, ("persistence", "drift", "mean", "moving-mean", "seasonal")),
        (LABEL, ("persistence", "most-frequent", "markov")),
        (TEXT, ("persistence",)),
    ],
)
def test_the_experts_of_a_kind_are_named_persistence_first(target: TargetSettings, expected: tuple[str, ...]) -> None:
    assert names(target) == expected


@pytest.mark.parametrize("target", [NUMBER, SEASONED, LABEL, TEXT])
def test_who_has_seen_nothing_forecasts_nothing(target: TargetSettings) -> None:
    assert forecasts(ExpertsState(), target, None) == {}


def test_each_expert_of_numbers_forecasts_by_its_name() -> None:
    values = [float(day * day) for day in range(12)]
    assert forecasts(after(values, SEASONED), SEASONED, None) == {
        "persistence": 121.0,
        "drift": 132.0,
        "mean": round(sum(values) / 12, 3),
        "moving-mean": sum(values[-WINDOW:]) / WINDOW,
        "seasonal": values[12 - 9],
    }


def test_the_seasonal_expert_waits_for_a_whole_season() -> None:
    assert "seasonal" not in forecasts(after([1.0] * 8, SEASONED), SEASONED, None)
    assert "seasonal" in forecasts(after([1.0] * 9, SEASONED), SEASONED, None)


def test_the_observations_own_value_is_what_persists() -> None:
    state = after([1.0, 2.0], NUMBER)
    assert forecasts(state, NUMBER, 10.0)["persistence"] == 10.0
    assert forecasts(state, NUMBER, 10.0)["drift"] == 11.0
    assert forecasts(ExpertsState(), NUMBER, 10.0) == {"persistence": 10.0}
    assert forecasts(after(["rain", "sun", "rain"], LABEL), LABEL, "sun")["markov"] == "rain"


def test_forecasts_are_rounded_two_decimals_finer_than_the_target_and_stay_in_its_range() -> None:
    target = TargetSettings(decimals=0, range=(0.0, 10.333))
    assert forecasts(after([1.0, 1.0, 2.0], target), target, None)["mean"] == 1.33
    assert forecasts(after([2.0, 9.0], target), target, None)["drift"] == 10.333
    assert str(forecasts(after([1.0, -0.0001], NUMBER), NUMBER, None)["persistence"]) == "0.0"


@given(st.lists(FLOATS, min_size=1, max_size=30), st.none() | FLOATS)
def test_any_finite_numbers_give_finite_forecasts_a_bounded_state_and_a_record_that_reads_back(
    values: list[float], current: float | None
) -> None:
    state = after(values, SEASONED)
    found = forecasts(state, SEASONED, current)
    assert all(abs(float(value)) < float("inf") for value in found.values())
    assert set(found) <= set(names(SEASONED)) and "persistence" in found
    assert len(state.recent) <= max(WINDOW, SEASONED.season)
    assert ExpertsState.model_validate(orjson.loads(encode(state))) == state


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200))
def test_the_running_mean_is_the_mean(values: list[float]) -> None:
    assert after(values, NUMBER).mean == pytest.approx(sum(values) / len(values), rel=1e-9, abs=1e-4)


def test_only_newer_values_are_taken_in() -> None:
    state = after([1.0, 2.0], NUMBER)
    assert update(state, 9.0, START + timedelta(days=1), NUMBER) is state
    assert update(state, 9.0, START, NUMBER) is state
    assert update(state, 9.0, START + timedelta(days=2), NUMBER).last == 9.0


def test_labels_are_forecast_by_the_last_the_commonest_and_what_follows_the_last() -> None:
    state = after(["rain", "sun", "rain", "sun", "sun", "rain"], LABEL)
    assert forecasts(state, LABEL, None) == {"persistence": "rain", "most-frequent": "rain", "markov": "sun"}


def test_a_label_that_nothing_has_followed_leaves_markov_silent() -> None:
    assert forecasts(after(["rain", "fog"], LABEL), LABEL, None) == {"persistence": "fog", "most-frequent": "rain"}


@given(st.lists(st.sampled_from(LABEL.labels), max_size=30), st.none() | st.sampled_from(LABEL.labels))
def test_a_ranking_holds_every_label_once_and_begins_with_markovs(values: list[str], current: str | None) -> None:
    state = after(values, LABEL)
    ranking = ranked(state, LABEL, current)
    assert sorted(ranking) == sorted(LABEL.labels)
    named = forecasts(state, LABEL, current)
    first = named.get("markov") or named.get("most-frequent")
    assert first is None or ranking[0] == first


def test_a_text_persists_and_is_not_counted() -> None:
    state = after(["a b", "c d"], TEXT)
    assert forecasts(state, TEXT, None) == {"persistence": "c d"}
    assert not state.counts and not state.recent


@pytest.mark.parametrize(("target", "alien"), [(NUMBER, "rain"), (LABEL, "snow"), (LABEL, 3.0), (TEXT, 3.0)])
def test_a_value_of_another_kind_changes_nothing(target: TargetSettings, alien: Value) -> None:
    assert update(ExpertsState(), alien, START, target) == ExpertsState()
    assert forecasts(ExpertsState(), target, alien) == {}


def test_a_state_written_under_other_settings_is_read_for_what_it_is_worth() -> None:
    labels, numbers = after(["rain", "sun"], LABEL), after([1.0, 2.0], NUMBER)
    assert forecasts(labels, NUMBER, None) == {}
    assert forecasts(update(labels, 5.0, START + timedelta(days=9), NUMBER), NUMBER, None)["mean"] == 5.0
    assert forecasts(numbers, LABEL, None) == {}
    fewer = TargetSettings(kind="category", labels=("sun", "fog"))
    assert forecasts(labels, fewer, None) == {"persistence": "sun", "most-frequent": "sun"}
    assert ranked(labels, fewer, None) == ("sun", "fog")
