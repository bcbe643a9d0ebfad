"""Whether one arm is better than another on the same cases."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from math import comb
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from schemas.messages import Answer, Value
from schemas.settings import TargetSettings
from streams.evaluation import pairs
from streams.evaluation.losses import ResultsUnfit
from streams.evaluation.pairs import Comparison, StatisticsMissing, compare, pool
from streams.evaluation.results import CaseResult

NUMBER = TargetSettings()
LABELS = TargetSettings(kind="category", labels=("yes", "no"))


def arm(answers: Sequence[Value], truths: Sequence[Value], entity: str = "here") -> list[CaseResult]:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    return [
        CaseResult(index=i, entity=entity, id=f"c{i}", time=start + timedelta(days=i), truth=truth, answer=Answer(value=answer))
        for i, (truth, answer) in enumerate(zip(truths, answers, strict=True))
    ]


def labels(both: int, first: int, second: int, neither: int) -> tuple[list[CaseResult], list[CaseResult]]:
    """Two arms, of whose cases so many are right in both, only in the one, only in the other, and in neither."""
    one = ["yes"] * (both + first) + ["no"] * (second + neither)
    two = ["yes"] * both + ["no"] * first + ["yes"] * second + ["no"] * neither
    return arm(one, ["yes"] * len(one)), arm(two, ["yes"] * len(two))


def numbers(ours: Sequence[float], theirs: Sequence[float]) -> tuple[list[CaseResult], list[CaseResult]]:
    """Two arms with these errors, truths being 0."""
    return arm(ours, [0.0] * len(ours)), arm(theirs, [0.0] * len(theirs))


def diebold_mariano(gains: Sequence[Sequence[float]], lags: Sequence[int]) -> tuple[float, float, float]:
    """Low end, high end and p-value by the textbook, each stream's variance as a quadratic form in Bartlett's weights."""
    every = np.concatenate([np.asarray(stream, dtype=float) for stream in gains])
    n, middle, total = len(every), float(np.mean(every)), 0.0
    for stream, lag in zip(gains, lags, strict=True):
        about = np.asarray(stream, dtype=float) - middle
        apart = np.abs(np.subtract.outer(np.arange(len(about)), np.arange(len(about))))
        total += about @ np.clip(1.0 - apart / (lag + 1), 0.0, None) @ about
    steps = max(lags) + 1
    error = np.sqrt(total / n**2) / np.sqrt((n + 1 - 2 * steps + steps * (steps - 1) / n) / n)
    half = stats.t.ppf(0.975, n - 1) * error
    return middle - half, middle + half, float(2 * stats.t.sf(abs(middle / error), n - 1))


def test_mcnemars_exact_test_looks_at_the_cases_that_only_one_arm_got_right() -> None:
    found = compare(*labels(40, 12, 2, 6), LABELS)

    by_hand = 2 * sum(comb(14, k) for k in range(3)) / 2**14
    assert found.p_value == pytest.approx(by_hand)
    assert found.sign_p_value == found.p_value
    assert (found.metric, found.n, found.wins, found.losses, found.ties) == ("accuracy", 60, 12, 2, 46)
    assert (found.score, found.against_score, found.difference) == pytest.approx((52 / 60, 42 / 60, 10 / 60))
    assert found.better and not found.worse and found.non_inferior


# 36, 12, 2, 0 is an example of Newcombe's (1998) paper.
@pytest.mark.parametrize(
    ("table", "low", "high"), [((36, 12, 2, 0), 0.0569, 0.3404), ((36, 2, 12, 0), -0.3404, -0.0569), ((30, 0, 0, 0), -0.1135, 0.1135)]
)
def test_the_interval_of_a_difference_in_accuracy_is_newcombes(table: tuple[int, int, int, int], low: float, high: float) -> None:
    found = compare(*labels(*table), LABELS)

    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


TABLES = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), st.integers(0, 60)).filter(any)


@given(TABLES)
def test_changing_sides_turns_a_difference_in_accuracy_around(table: tuple[int, int, int, int]) -> None:
    one, two = labels(*table)

    ours, theirs = compare(one, two, LABELS), compare(two, one, LABELS)

    assert ours.low is not None and ours.high is not None
    assert -1.0 <= ours.low <= ours.difference <= ours.high <= 1.0
    assert (theirs.difference, theirs.low, theirs.high) == pytest.approx((-ours.difference, -ours.high, -ours.low))
    assert (theirs.wins, theirs.losses, theirs.p_value, theirs.better) == (ours.losses, ours.wins, ours.p_value, ours.worse)
    assert ours.p_value == pytest.approx(
        stats.binomtest(ours.wins, max(ours.wins + ours.losses, 1)).pvalue if ours.wins + ours.losses else 1.0
    )


def test_texts_are_compared_by_accuracy_in_the_targets_own_sense_of_equal() -> None:
    found = compare(arm(["Asthma."], ["asthma"]), arm(["copd"], ["asthma"]), TargetSettings(kind="text"))

    assert (found.metric, found.wins, found.score) == ("accuracy", 1, 1.0)


@pytest.mark.parametrize(("n", "lag"), [(8, 2), (63, 3), (64, 4), (124, 4), (125, 5), (1000, 10)])
def test_the_lag_is_the_cube_root_of_the_number_of_cases_rounded_down(n: int, lag: int) -> None:
    drawn = np.random.default_rng(n).normal(size=(2, n)).cumsum(axis=1)
    ours, theirs = numbers(list(drawn[0]), list(drawn[1]))

    found = compare(ours, theirs, NUMBER)

    expected = diebold_mariano([np.abs(drawn[1]) - np.abs(drawn[0])], [lag])
    assert (found.low, found.high, found.p_value) == pytest.approx(expected, rel=1e-9)
    assert compare(ours, theirs, NUMBER, lag=lag) == found
    assert compare(ours, theirs, NUMBER, lag=lag + 1) != found


def test_diebold_mariano_by_hand() -> None:
    found = compare(*numbers([0.0, 1.0, 0.0, 2.0], [1.0, 3.0, 3.0, 0.0]), NUMBER, lag=1)

    # Gains 1, 2, 3, -2; about their mean of 1: 0, 1, 2, -3; 14 and, weighing twice a half, 0 + 2 - 6; (14 - 4) / 16.
    # h = 2: (4 + 1 - 4 + 2 / 4) / 4 = 0.375. t = 1 / sqrt(0.625 / 0.375) = 0.7746 with 3 degrees of freedom.
    assert (found.wins, found.losses, found.ties, found.difference) == (3, 1, 0, 1.0)
    assert found.p_value == pytest.approx(2 * stats.t.sf(0.6**0.5, 3))
    assert found.high == pytest.approx(1 + 3.182446 / 0.6**0.5, rel=1e-6)
    assert found.sign_p_value == pytest.approx(2 * (1 + 4) / 16)
    assert (found.score, found.against_score, found.margin) == pytest.approx((0.75, 1.75, 0.0875))


def test_without_a_lag_the_test_is_students_on_paired_differences_but_for_the_denominator() -> None:
    drawn = np.abs(np.random.default_rng(5).normal(size=(2, 40)))

    found = compare(*numbers(list(drawn[0]), list(drawn[1])), NUMBER, lag=0)

    # The correction for one step is (n - 1) / n: with it the variance is that of Student's paired test, exactly.
    assert found.p_value == pytest.approx(float(stats.ttest_rel(drawn[1], drawn[0]).pvalue))


ERRORS = st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=1, max_size=40)


@given(ERRORS, st.none() | st.integers(0, 50))
def test_changing_sides_turns_a_difference_in_error_around(drawn: list[tuple[float, float]], lag: int | None) -> None:
    one, two = numbers([ours for ours, _ in drawn], [theirs for _, theirs in drawn])

    ours, theirs = compare(one, two, NUMBER, lag=lag), compare(two, one, NUMBER, lag=lag)

    assert (theirs.difference, theirs.wins, theirs.losses) == (-ours.difference, ours.losses, ours.wins)
    assert (theirs.p_value, theirs.sign_p_value) == (pytest.approx(ours.p_value), ours.sign_p_value)
    assert json.loads(json.dumps(ours.model_dump(mode="json"), allow_nan=False)) == ours.model_dump(mode="json")
    if ours.low is not None and ours.high is not None:
        assert ours.low <= ours.difference <= ours.high
        assert (theirs.low, theirs.high) == pytest.approx((-ours.high, -ours.low))


@given(ERRORS)
def test_an_interval_leaves_out_zero_exactly_where_the_test_finds_a_difference(drawn: list[tuple[float, float]]) -> None:
    found = compare(*numbers([ours for ours, _ in drawn], [theirs for _, theirs in drawn]), NUMBER)

    if found.low is not None and found.high is not None and found.low < found.high and abs(found.p_value - 0.05) > 1e-9:
        assert (found.low > 0.0 or found.high < 0.0) == (found.p_value < 0.05) == (found.better or found.worse)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30))
def test_identical_arms_do_not_differ(answers: list[float]) -> None:
    rows = arm(answers, [1.0] * len(answers))

    found = compare(rows, rows, NUMBER)

    assert (found.p_value, found.sign_p_value, found.difference, found.ties) == (1.0, 1.0, 0.0, len(rows))
    assert not found.better and not found.worse
    assert found.non_inferior is (len(rows) > 2), "two cases show nothing"


@given(TABLES)
def test_identical_arms_with_labels_do_not_differ(table: tuple[int, int, int, int]) -> None:
    rows, _ = labels(*table)

    found = compare(rows, rows, LABELS)

    assert (found.p_value, found.difference, found.ties) == (1.0, 0.0, len(rows))
    assert not found.better and not found.worse


def test_equal_errors_on_both_sides_of_the_truth_are_ties_whatever_the_rounding() -> None:
    truths = [round(0.1 * i, 1) for i in range(1, 60)]
    above, below = ([round(truth + side, 1) for truth in truths] for side in (0.3, -0.3))

    found = compare(arm(above, truths), arm(below, truths), NUMBER)

    assert (found.wins, found.losses, found.ties) == (0, 0, 59)


def test_an_advantage_without_variance_is_left_to_the_sign_test() -> None:
    found = compare(*numbers([1.0] * 10, [1.5] * 10), NUMBER)

    assert (found.low, found.high) == (0.5, 0.5)
    assert found.p_value == found.sign_p_value == pytest.approx(2 / 2**10)
    assert found.better


def test_too_few_cases_have_no_interval_and_show_nothing() -> None:
    found = compare(*numbers([1.0, 1.0], [2.0, 3.0]), NUMBER)

    assert (found.low, found.high, found.p_value, found.non_inferior) == (None, None, 0.5, False)
    assert found.verdict.startswith("Not distinguishable at n = 2") and "too few cases for an interval" in found.verdict


def test_errors_of_the_largest_numbers_can_be_compared() -> None:
    found = compare(*numbers([1e308, -1e308, 1.0, 5.0], [1.0, 2.0, 1e308, 1e308]), NUMBER)

    assert found.p_value == pytest.approx(1.0)


def pooled_parts() -> list[tuple[list[CaseResult], list[CaseResult]]]:
    random = np.random.default_rng(3)
    return [numbers(*(list(np.abs(random.normal(size=n)).cumsum() / 5) for _ in range(2))) for n in (30, 70)]


def test_lags_do_not_reach_from_one_pooled_stream_into_the_next() -> None:
    parts = pooled_parts()

    found = pool(parts, NUMBER)

    gains = [[abs(float(b.answer.value)) - abs(float(a.answer.value)) for a, b in zip(one, two, strict=True)] for one, two in parts]
    assert (found.low, found.high, found.p_value) == pytest.approx(diebold_mariano(gains, [3, 4]), rel=1e-9)
    assert found.p_value != pytest.approx(diebold_mariano([[*gains[0], *gains[1]]], [4])[2])
    assert (found.n, found.streams) == (100, 2)
    turned = pool(parts[::-1], NUMBER)
    assert (turned.p_value, turned.difference) == pytest.approx((found.p_value, found.difference))


def test_pooled_labels_are_counted_together() -> None:
    together = pool([labels(5, 6, 0, 4), labels(5, 6, 2, 2)], LABELS)

    alone = compare(*labels(10, 12, 2, 6), LABELS)
    assert together.model_dump(exclude={"streams"}) == alone.model_dump(exclude={"streams"})
    assert (together.streams, alone.streams) == (2, 1)


def test_a_pool_of_one_stream_is_a_comparison() -> None:
    one, two = pooled_parts()[0]

    assert pool([(one, two)], NUMBER) == compare(one, two, NUMBER)


def test_rows_are_paired_by_case_whatever_order_they_come_in() -> None:
    one, two = pooled_parts()[1]

    assert compare(one[::-1], two, NUMBER) == compare(one, two[::-1], NUMBER) == compare(one, two, NUMBER)


def test_arms_with_different_cases_are_refused_with_what_is_where() -> None:
    one, two = labels(3, 2, 0, 0)

    with pytest.raises(ResultsUnfit, match=r"1 only in one \(case 'c4' of 'here'\), 4 in both"):
        compare(one, two[:-1], LABELS)
    with pytest.raises(ResultsUnfit, match=r"1 only in one .* 1 only in the other .*'there'"):
        compare(one, [*two[:-1], two[-1].model_copy(update={"entity": "there"})], LABELS)


def test_a_case_that_stands_twice_or_came_true_differently_is_refused() -> None:
    one, two = labels(3, 2, 0, 0)

    with pytest.raises(ResultsUnfit, match=r"c0.*2 times"):
        compare([*one, one[0]], [*two, two[0]], LABELS)
    with pytest.raises(ResultsUnfit, match="'c0' of 'here' came true as 'yes' in one arm and as 'no'"):
        compare(one, [two[0].model_copy(update={"truth": "no"}), *two[1:]], LABELS)


def test_nothing_to_compare_is_refused() -> None:
    for nothing in ([], [([], [])]):
        with pytest.raises(ResultsUnfit, match="no cases"):
            pool(nothing, NUMBER)


def test_a_negative_lag_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        compare(*numbers([1.0], [2.0]), NUMBER, lag=-1)


def test_without_scipy_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)

    for sides, target in ((labels(3, 2, 0, 0), LABELS), (numbers([1.0, 2.0, 3.0], [2.0, 2.0, 5.0]), NUMBER)):
        with pytest.raises(StatisticsMissing, match=r"pip install 'palimpsest\[evaluation\]'"):
            compare(*sides, target)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ((40, 12, 2, 6), "Better: accuracy 0.867 against 0.700, 95 % interval of the gain +4.6 to +28.7 points, p = 0.013, n = 60."),
        ((40, 2, 12, 6), "Worse: accuracy 0.700 against 0.867, 95 % interval of the gain -28.7 to -4.6 points, p = 0.013, n = 60."),
        ((1200, 4, 24, 800), "Worse, but by less than 5 points of accuracy: "),
        ((200, 4, 5, 100), "Non-inferior (not worse by 5 points of accuracy): "),
        ((20, 3, 5, 10), "Not distinguishable at n = 38: "),
    ],
)
def test_the_verdict_on_labels_is_a_sentence_with_its_figures(table: tuple[int, int, int, int], said: str) -> None:
    assert compare(*labels(*table), LABELS).verdict.startswith(said)


def _numbers_apart(by: float, spread: float, n: int = 200) -> Comparison:
    noise = np.random.default_rng(1).normal(size=n)
    ours = 10.0 + noise
    return compare(*numbers(list(ours), list(ours + by + spread * np.random.default_rng(2).normal(size=n))), NUMBER)


@pytest.mark.parametrize(
    ("by", "spread", "said", "better", "worse", "non_inferior"),
    [
        (1.0, 1.0, "Better: MAE ", True, False, True),
        (-1.0, 1.0, "Worse: MAE ", False, True, False),
        (-0.2, 0.1, "Worse, but by less than 5 % of the other's MAE: MAE ", False, True, True),
        (0.0, 0.5, "Non-inferior (not worse by 5 % of the other's MAE): MAE ", False, False, True),
        (0.0, 5.0, "Not distinguishable at n = 200: MAE ", False, False, False),
    ],
)
def test_the_verdict_on_numbers_is_a_sentence_with_its_figures(
    by: float, spread: float, said: str, better: bool, worse: bool, non_inferior: bool
) -> None:
    found = _numbers_apart(by, spread)

    assert found.verdict.startswith(said)
    assert (found.better, found.worse, found.non_inferior) == (better, worse, non_inferior)
    assert found.margin == pytest.approx(0.05 * found.against_score)
    assert f"against {found.against_score:.4g}" in found.verdict and "n = 200" in found.verdict


def test_another_arm_without_error_leaves_no_margin_but_its_equal_is_not_worse() -> None:
    perfect = arm([1.0] * 10, [1.0] * 10)
    found = compare(perfect, perfect, NUMBER)

    assert (found.margin, found.non_inferior) == (0.0, True)
    assert not compare(arm([1.0] * 9 + [2.0], [1.0] * 10), perfect, NUMBER).non_inferior


def test_under_no_difference_the_tests_find_one_about_as_often_as_they_say() -> None:
    random, found = np.random.default_rng(11), 0
    for _ in range(400):
        drawn = np.abs(random.normal(size=(2, 60)))
        found += pairs.compare(*numbers(list(drawn[0]), list(drawn[1])), NUMBER).p_value < 0.05

    assert 0.02 < found / 400 < 0.10


def test_an_outcome_of_the_test_is_plain_data() -> None:
    found: dict[str, Any] = compare(*labels(40, 12, 2, 6), LABELS).model_dump(mode="json")

    assert Comparison(**json.loads(json.dumps(found))).model_dump(mode="json") == found
