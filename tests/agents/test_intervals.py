"""Intervals and sets hold as many truths as they say, whatever the stream does and however late the truths come."""

from __future__ import annotations

import csv
import random
from collections import deque
from collections.abc import Sequence
from importlib.resources import files
from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.intervals import ENOUGH, WINDOW, covers, interval, learn
from schemas.codec import encode
from schemas.messages import Answer, Interval, Value
from schemas.settings import TargetSettings
from schemas.state import IntervalState

NUMBER = TargetSettings()
LABEL = TargetSettings(kind="category", labels=("rain", "fog", "sun", "snow", "drizzle"))
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


def seattle(column: str) -> list[str]:
    with files("vega_datasets").joinpath("_data/seattle-weather.csv").open(encoding="utf-8") as lines:
        return [row[column] for row in csv.DictReader(lines)]


def coverage(truths: Sequence[Value], target: TargetSettings, level: float, delay: int) -> float:
    """Share of truths inside, with the last value as forecast and each truth `delay` steps late."""
    state, waiting, inside = IntervalState(), deque[tuple[int, Interval | None, Answer, Value]](), list[bool]()
    for step, (last, truth) in enumerate(pairwise(truths)):
        while waiting and waiting[0][0] + delay <= step:
            _, stored, answer, outcome = waiting.popleft()
            state = learn(state, stored, answer, outcome, target, level)
        answer = Answer(value=last)
        given_out = interval(state, answer, {}, target, level)
        if given_out is not None:
            inside.append(covers(given_out, truth))
        waiting.append((step, given_out, answer, truth))
    assert len(inside) >= 1000
    return sum(inside) / len(inside)


@pytest.mark.parametrize("delay", [1, 5, 50])
@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
def test_on_real_temperatures_coverage_is_within_three_points_of_its_level(level: float, delay: int) -> None:
    assert coverage([float(value) for value in seattle("temp_max")], NUMBER, level, delay) == pytest.approx(level, abs=0.03)


@pytest.mark.parametrize("delay", [1, 5])
def test_coverage_survives_noise_that_grows_tenfold_midway(delay: int) -> None:
    chance = random.Random(1)
    truths = [chance.gauss(0, 1 if step < 700 else 10) for step in range(1400)]
    assert coverage(truths, NUMBER, 0.8, delay) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("delay", [1, 5, 50])
@pytest.mark.parametrize("level", [0.8, 0.9])
def test_on_real_labels_sets_cover_within_three_points_of_their_level(level: float, delay: int) -> None:
    assert coverage(seattle("weather"), LABEL, level, delay) == pytest.approx(level, abs=0.03)


def after(errors: Sequence[float]) -> IntervalState:
    state = IntervalState()
    for error in errors:
        state = learn(state, None, Answer(value=10.0), 10.0 + error, NUMBER, 0.8)
    return state


def test_there_is_no_interval_before_enough_outcomes_and_none_for_a_text() -> None:
    assert interval(after([1.0] * (ENOUGH - 1)), Answer(value=10.0), {}, NUMBER, 0.8) is None
    assert interval(after([1.0] * ENOUGH), Answer(value=10.0), {}, NUMBER, 0.8) == Interval(level=0.8, low=9.0, high=11.0)
    assert interval(after([1.0] * ENOUGH), Answer(value="a"), {}, TargetSettings(kind="text"), 0.8) is None


def test_an_intervals_ends_stay_in_the_targets_range() -> None:
    target = TargetSettings(range=(9.5, 10.25))
    assert interval(after([1.0] * ENOUGH), Answer(value=10.0), {}, target, 0.8) == Interval(level=0.8, low=9.5, high=10.25)


def test_a_level_that_the_residuals_do_not_reach_gets_twice_the_largest() -> None:
    assert interval(after([-1.0, 1.0] * 4), Answer(value=10.0), {}, NUMBER, 0.99) == Interval(level=0.99, low=8.0, high=12.0)


def test_a_miss_widens_what_comes_and_a_hit_narrows_it() -> None:
    state = after([float(error) for error in range(1, 21)])
    stored = interval(state, Answer(value=10.0), {}, NUMBER, 0.8)
    missed = learn(state, stored, Answer(value=10.0), 99.0, NUMBER, 0.8)
    hit = learn(state, stored, Answer(value=10.0), 10.0, NUMBER, 0.8)
    assert missed.alpha == pytest.approx(0.192) and hit.alpha == pytest.approx(0.202)


def test_a_set_begins_with_the_forecast_then_its_ranking_then_what_the_arms_say() -> None:
    state = IntervalState(residuals=(4.0,) * ENOUGH)
    arms: dict[str, Value] = {"markov": "snow", "model": "drizzle", "most-frequent": "drizzle"}
    assert interval(state, Answer(value="sun", top=("sun", "fog")), arms, LABEL, 0.8) == Interval(
        level=0.8, labels=("sun", "fog", "drizzle", "snow")
    )


def test_a_set_is_never_empty() -> None:
    state = IntervalState(alpha=1.0, residuals=(1.0,) * ENOUGH)
    assert interval(state, Answer(value="sun"), {}, LABEL, 0.8) == Interval(level=0.8, labels=("sun",))


@given(st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=30), st.floats(0.01, 0.99))
def test_any_finite_numbers_give_finite_ends_around_the_forecast_and_a_state_that_reads_back(
    rows: list[tuple[float, float]], level: float
) -> None:
    state = IntervalState()
    for said, truth in rows:
        answer = Answer(value=round(said, 3))
        stored = interval(state, answer, {}, NUMBER, level)
        if stored is not None:
            assert stored.low is not None and stored.high is not None
            assert Interval.model_validate(stored.model_dump()).low == stored.low
            assert stored.low <= float(answer.value) <= stored.high
        state = learn(state, stored, answer, truth, NUMBER, level)
        assert IntervalState.model_validate(orjson.loads(encode(state))) == state
    assert len(state.residuals) <= WINDOW


@pytest.mark.parametrize(("target", "alien"), [(NUMBER, "rain"), (LABEL, "hail"), (LABEL, 3.0), (TargetSettings(kind="text"), "a")])
def test_a_truth_that_gives_no_residual_changes_nothing(target: TargetSettings, alien: Value) -> None:
    assert learn(IntervalState(), None, Answer(value="sun"), alien, target, 0.8) == IntervalState()
