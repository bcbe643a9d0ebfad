"""What each forecaster's stored answer was worth."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from agents import scoring
from agents.text_scoring import matches
from schemas.messages import Answer
from schemas.settings import TargetSettings

NUMBER = TargetSettings()
LABELS = TargetSettings(kind="category", labels=("rain", "fog", "sun"), top_k=2)
TEXT = TargetSettings(kind="text")


def same(answer: str, truth: str) -> bool:
    return answer == truth


def test_a_numbers_error_is_truth_minus_forecast_for_every_arm_that_answered(given: Any) -> None:
    row = given.resolved(0, 12.0, forecast=11.0, model_answer=Answer(value=14.5), experts={"persistence": 10.0, "rules": 12.0})

    assert scoring.errors(row, 12.0, same) == {"published": 1.0, "model": -2.5, "persistence": 2.0, "rules": 0.0}


def test_an_arm_that_gave_no_answer_has_no_error_and_no_score(given: Any) -> None:
    row = given.resolved(0, 12.0)

    assert set(scoring.errors(row, 12.0, same)) == {"published"}
    assert set(scoring.add({}, row, 12.0, NUMBER, same, fading=0.98)) == {"published"}


def test_a_label_is_a_hit_or_a_miss_and_counts_in_the_top_ranks(given: Any) -> None:
    row = given.resolved(0, "fog", experts={"persistence": "fog"}).model_copy(
        update={"forecast": Answer(value="rain", top=("rain", "fog")), "model_answer": Answer(value="sun", top=("sun", "rain", "fog"))}
    )

    scores = scoring.view(scoring.add({}, row, "fog", LABELS, same, fading=1.0), LABELS)

    assert (scores["published"].accuracy, scores["published"].top_k) == (0.0, 1.0)
    assert (scores["persistence"].accuracy, scores["persistence"].top_k) == (1.0, 1.0)
    assert scores["model"].top_k == 0.0, "third of two ranks"


def test_a_text_is_compared_as_the_scorer_says(given: Any) -> None:
    row = given.resolved(0, "Heart failure", forecast="heart failure.")

    assert scoring.error(row.forecast, "Heart failure", lambda one, two: matches(one, two, "normalised").hit) == 0.0
    assert scoring.error(row.forecast, "Heart failure", lambda one, two: matches(one, two, "exact").hit) == 1.0


def test_running_scores_are_means_over_the_outcomes(given: Any) -> None:
    totals: dict[str, Any] = {}
    for truth in (12.0, 9.0, 11.0):
        totals = scoring.add(totals, given.resolved(0, truth), truth, NUMBER, same, fading=0.5)

    score = scoring.view(totals, NUMBER)["published"]

    assert (score.n, score.mae, score.mse) == (3, 1.0, round(5 / 3, 6))
    # 0.5² · 1 + 0.5 · 2 + 0 over 0.5² + 0.5 + 1
    assert score.faded == round(1.25 / 1.75, 6)


def test_numbers_within_the_named_size_are_hits(given: Any) -> None:
    target = TargetSettings(hit_within=1.5)
    totals = scoring.add({}, given.resolved(0), 12.5, target, same, fading=1.0)
    totals = scoring.add(totals, given.resolved(0), 12.6, target, same, fading=1.0)

    assert scoring.view(totals, target)["published"].accuracy == 0.5


def test_a_correction_leaves_the_faded_view_alone(given: Any) -> None:
    row = given.resolved(0, 12.0)
    before = scoring.add({}, row, 12.0, NUMBER, same, fading=0.98)

    after = scoring.add(scoring.remove(before, row, NUMBER, same), row, 20.0, NUMBER, same, fading=None)

    assert (after["published"].faded, after["published"].faded_n) == (before["published"].faded, before["published"].faded_n)
    assert after["published"].abs_sum == 9.0


def test_an_arm_without_outcomes_has_no_score(given: Any) -> None:
    row = given.resolved(0, 12.0)
    totals = scoring.remove(scoring.add({}, row, 12.0, NUMBER, same, fading=0.98), row, NUMBER, same)

    assert scoring.view(totals, NUMBER) == {}


numbers = st.floats(-1e4, 1e4)


@drawn(outcomes=st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=12))
def test_corrected_sums_are_those_of_the_last_truths_alone(given: Any, outcomes: list[tuple[float, float, float]]) -> None:
    corrected: dict[str, Any] = {}
    straight: dict[str, Any] = {}
    rows = [given.resolved(0, first, forecast=forecast, experts={"mean": -forecast}) for forecast, first, _ in outcomes]
    for row in rows:
        corrected = scoring.add(corrected, row, row.truth, NUMBER, same, fading=0.98)
    for row, (_, _, last) in zip(rows, outcomes, strict=True):
        corrected = scoring.add(scoring.remove(corrected, row, NUMBER, same), row, last, NUMBER, same, fading=None)
    for row, (_, _, last) in reversed(list(zip(rows, outcomes, strict=True))):
        straight = scoring.add(straight, row, last, NUMBER, same, fading=0.98)

    for arm in ("published", "mean"):
        assert corrected[arm].n == straight[arm].n
        assert corrected[arm].abs_sum == pytest.approx(straight[arm].abs_sum, abs=1e-5)
        assert corrected[arm].square_sum == pytest.approx(straight[arm].square_sum, abs=1e-5)


@pytest.mark.parametrize("truth", [1.7e308, -1.7e308, 1e200])
def test_errors_sums_and_scores_stay_finite_whatever_the_numbers(given: Any, truth: float) -> None:
    row = given.resolved(0, truth, forecast=-truth)
    totals = scoring.add({}, row, truth, NUMBER, same, fading=0.98)
    totals = scoring.add(totals, row, truth, NUMBER, same, fading=0.98)

    score = scoring.view(totals, NUMBER)["published"]

    assert score.mae == scoring.WORST
    assert score.mse is not None
    assert score.mse < float("inf")
    assert abs(scoring.errors(row, truth, same)["published"]) == scoring.WORST
