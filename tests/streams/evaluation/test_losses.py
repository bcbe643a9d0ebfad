"""What each answer missed by, and how that goes on over a stream."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from schemas.messages import Answer, Value
from schemas.settings import TargetSettings
from streams.evaluation.losses import ResultsUnfit, blocks, in_order, learning_curve, loss
from streams.evaluation.results import CaseResult

NUMBER = TargetSettings()
LABELS = TargetSettings(kind="category", labels=("rain", "fog", "sun"))


def cases(truths: Sequence[Value], answers: Sequence[Value]) -> list[CaseResult]:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    return [
        CaseResult(index=i, entity="here", id=f"c{i}", time=start + timedelta(days=i), truth=truth, answer=Answer(value=answer))
        for i, (truth, answer) in enumerate(zip(truths, answers, strict=True))
    ]


def test_a_number_misses_by_its_absolute_error_without_rounding() -> None:
    (row,) = cases([0.1], [0.1000000001])

    assert loss(row, NUMBER) == pytest.approx(1e-10, rel=1e-6)


def test_errors_of_the_largest_numbers_stay_finite() -> None:
    (row,) = cases([1.7e308], [-1.7e308])

    assert loss(row, NUMBER) ** 2 < float("inf")


def test_anothers_answer_is_scored_against_the_same_truth() -> None:
    (row,) = cases(["fog"], ["fog"])

    assert (loss(row, LABELS), loss(row, LABELS, "sun")) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("scorer", "missed"), [("normalised", 0.0), ("judge", 0.0), ("exact", 1.0), ("checker:operator:eq", 1.0), ("checker:operator:ne", 0.0)]
)
def test_a_text_is_compared_as_the_target_says_and_a_judges_as_normalised(scorer: str, missed: float) -> None:
    (row,) = cases(["Heart failure"], ["heart failure."])

    assert loss(row, TargetSettings(kind="text", scorer=scorer)) == missed


def test_a_label_is_compared_to_the_letter() -> None:
    (row,) = cases(["Fog"], ["fog"])

    assert loss(row, TargetSettings(kind="category", labels=("Fog", "fog"))) == 1.0


@pytest.mark.parametrize(
    ("target", "truth", "answer"), [(NUMBER, 1.0, "one"), (NUMBER, "one", 1.0), (LABELS, "fog", 1.0), (LABELS, 1.0, "fog")]
)
def test_a_value_of_another_kind_is_refused_by_the_name_of_its_case(target: TargetSettings, truth: Value, answer: Value) -> None:
    (row,) = cases([truth], [answer])

    with pytest.raises(ResultsUnfit, match="c0"):
        loss(row, target)


def test_results_are_put_into_the_order_of_their_cases() -> None:
    rows = cases([1.0, 2.0, 3.0], [0.0, 0.0, 0.0])

    assert in_order(reversed(rows)) == rows


def test_the_learning_curve_fades_what_lies_back() -> None:
    curve = learning_curve(cases([1.0, 1.0, 1.0], [0.0, 1.0, 3.0]), NUMBER, fading=0.5)

    assert curve == pytest.approx([1.0, 0.5 / 1.5, (0.25 * 1 + 2) / 1.75])


def test_the_learning_curve_of_labels_is_accuracy_and_without_fading_the_running_mean() -> None:
    rows = cases(["fog", "sun", "sun", "sun"], ["fog", "fog", "sun", "sun"])

    assert learning_curve(rows, LABELS, fading=1.0) == pytest.approx([1.0, 1 / 2, 2 / 3, 3 / 4])


def test_blocks_are_means_of_cases_in_a_row_and_the_last_holds_the_rest() -> None:
    rows = cases([0.0] * 5, [1.0, 3.0, 2.0, 4.0, 7.0])

    assert blocks(rows, NUMBER, 2) == [2.0, 3.0, 7.0]
    assert blocks(rows[::-1], NUMBER, 2) == [2.0, 3.0, 7.0], "whatever the order they are handed in"
    assert blocks([], NUMBER, 2) == []


def test_a_block_of_no_cases_is_refused() -> None:
    with pytest.raises(ValueError, match="0 cases"):
        blocks(cases([0.0], [0.0]), NUMBER, 0)
