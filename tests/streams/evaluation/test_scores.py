"""What one arm's cases come to in figures."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from schemas.messages import Answer, Interval, Value
from schemas.settings import TargetSettings
from streams.evaluation.results import CaseResult, Spent
from streams.evaluation.scores import ResultsUnfit, score, vote, wilson

NUMBER = TargetSettings()
LABELS = TargetSettings(kind="category", labels=("rain", "fog", "sun"), top_k=2)
NAMES = st.sampled_from(LABELS.labels)


def case(index: int, truth: Value, answer: Value | Answer, entity: str = "here", **given: Any) -> CaseResult:
    time = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=index)
    given["answer"] = answer if isinstance(answer, Answer) else Answer(value=answer)
    return CaseResult(index=index, entity=entity, id=f"c{index}", time=time, truth=truth, **given)


def numbers(truths: Sequence[float], answers: Sequence[float], last: Sequence[float | None]) -> list[CaseResult]:
    return [
        case(i, truth, answer, naive={} if known is None else {"persistence": known})
        for i, (truth, answer, known) in enumerate(zip(truths, answers, last, strict=True))
    ]


def labels(truths: Sequence[str], answers: Sequence[str | Answer]) -> list[CaseResult]:
    return [case(i, truth, answer) for i, (truth, answer) in enumerate(zip(truths, answers, strict=True))]


def test_no_cases_have_no_figures_but_their_number() -> None:
    assert score([], NUMBER) == {"n": 0}


def test_errors_are_means_over_all_cases_and_skill_is_against_persistence_where_there_is_one() -> None:
    found = score(numbers([10.0, 12.0, 11.0], [0.0, 11.0, 11.5], [None, 10.0, 12.0]), NUMBER)

    assert found["n"] == 3
    assert (found["mae"], found["mse"]) == pytest.approx((11.5 / 3, (100 + 1 + 0.25) / 3))
    assert found["rmse"] == pytest.approx(math.sqrt(found["mse"]))
    assert (found["mae_persistence"], found["mase"], found["skill"]) == pytest.approx((1.5, 0.75 / 1.5, 0.5))


def test_persistence_itself_has_no_skill() -> None:
    found = score(numbers([3.0, 1.0], [2.0, 3.0], [2.0, 3.0]), NUMBER)

    assert (found["mase"], found["skill"]) == (1.0, 0.0)


def test_against_a_persistence_without_error_there_is_no_skill_to_be_had() -> None:
    found = score(numbers([3.0, 3.0], [2.0, 3.0], [3.0, 3.0]), NUMBER)

    assert found["mae_persistence"] == 0.0
    assert "mase" not in found and "skill" not in found


def test_direction_is_of_the_change_and_a_truth_that_stays_has_none() -> None:
    rows = numbers([12.0, 9.0, 10.0, 11.0, 8.0], [11.0, 11.0, 12.0, 10.0, 9.5], [10.0, 10.0, 10.0, 10.0, 10.0])

    found = score(rows, NUMBER)

    assert (found["directional_n"], found["directional_given"], found["up_rate"]) == (4, 3, 0.5)
    assert found["directional_accuracy"] == 0.5, "up and down once right, once wrong, once no answer"
    assert (found["directional_accuracy_low"], found["directional_accuracy_high"]) == wilson(2, 4)


def test_direction_of_a_move_is_its_own_sign() -> None:
    rows = numbers([0.5, -0.2, 0.0, 0.1], [0.1, 0.1, 3.0, 0.2], [9.0, 9.0, 9.0, None])

    found = score(rows, NUMBER, direction_of="value")

    assert (found["directional_accuracy"], found["directional_n"], found["up_rate"]) == (2 / 3, 3, 2 / 3)


def test_an_arm_that_never_moves_has_no_directional_accuracy() -> None:
    found = score(numbers([12.0, 9.0], [10.0, 10.0], [10.0, 10.0]), NUMBER)

    assert (found["directional_n"], found["directional_given"]) == (2, 0)
    assert "directional_accuracy" not in found


def test_accuracy_and_top_k_count_what_was_ranked() -> None:
    first_three = [Answer(value="rain", top=("rain", "fog", "sun")), Answer(value="sun", top=("sun", "rain", "fog")), "sun"]

    found = score(labels(["fog", "fog", "sun"], first_three), LABELS)

    assert found["accuracy"] == 1 / 3
    assert (found["accuracy_low"], found["accuracy_high"]) == wilson(1, 3)
    assert (found["top_k"], found["top_k_n"]) == (0.5, 2), "the third rank of two does not count, nor a case without ranks"


def test_without_ranks_there_is_no_top_k() -> None:
    assert "top_k" not in score(labels(["fog"], ["fog"]), LABELS)


def test_a_text_has_accuracy_and_nothing_of_labels() -> None:
    found = score(labels(["Heart failure", "Asthma"], ["heart failure.", "COPD"]), TargetSettings(kind="text"))

    assert found["accuracy"] == 0.5
    assert not {"top_k", "vote_brier", "vote_log_loss", "mae"} & found.keys()


def test_the_calibrated_vote_starts_uniform_and_moves_with_the_ranks_that_came_true() -> None:
    rows = labels(["rain", "fog", "sun"], [Answer(value="rain", top=("rain", "fog")), "rain", "fog"])

    votes = vote(rows, LABELS)

    assert votes[0] == pytest.approx({"rain": 1 / 3, "fog": 1 / 3, "sun": 1 / 3})
    assert votes[1] == pytest.approx({"rain": 2 / 4, "fog": 1 / 4, "sun": 1 / 4}), "rank 1 came true once in one"
    assert votes[2] == pytest.approx({"fog": 2 / 5, "rain": 1.5 / 5, "sun": 1.5 / 5}), "then one of the two that were not ranked"
    found = score(rows, LABELS)
    assert found["vote_log_loss"] == pytest.approx(-(math.log(1 / 3) + math.log(1 / 4) + math.log(1.5 / 5)) / 3)
    briers = [2 / 3, 0.5**2 + 0.75**2 + 0.25**2, 0.4**2 + 0.3**2 + 0.7**2]
    assert (found["vote_brier"], found["vote_n"]) == (pytest.approx(sum(briers) / 3), 3)


def test_a_truth_that_is_no_label_is_not_voted_on() -> None:
    rows = labels(["hail", "fog"], ["rain", "fog"])

    assert score(rows, LABELS)["vote_n"] == 1
    assert vote(rows, LABELS)[1] == pytest.approx(dict.fromkeys(LABELS.labels, 1 / 3)), "nor learned from"


ANSWERS = st.builds(lambda order, top: Answer(value=order[0], top=tuple(order[:top])), st.permutations(LABELS.labels), st.integers(0, 3))


@given(st.lists(st.tuples(NAMES, ANSWERS), min_size=1, max_size=30), NAMES)
def test_each_vote_is_a_distribution_that_does_not_know_its_own_truth(drawn: list[tuple[str, Answer]], other: str) -> None:
    rows = labels([truth for truth, _ in drawn], [answer for _, answer in drawn])

    votes = vote(rows, LABELS)

    assert all(sum(chances.values()) == pytest.approx(1.0) and min(chances.values()) > 0.0 for chances in votes)
    changed = [*rows[:-1], rows[-1].model_copy(update={"truth": other})]
    assert vote(changed, LABELS) == votes


def test_an_intervals_coverage_width_and_pinball_loss() -> None:
    inside = case(0, 5.0, 5.0, interval=Interval(level=0.8, low=4.0, high=7.0))
    above = case(1, 9.0, 5.0, interval=Interval(level=0.8, low=4.0, high=6.0))
    none = case(2, 5.0, 5.0)

    found = score([inside, above, none], NUMBER)

    assert (found["interval_n"], found["interval_level"], found["interval_coverage"]) == (2, 0.8, 0.5)
    assert found["interval_width"] == 2.5
    # At 0.1 and 0.9: ends that lie outside of the truth cost a tenth of their distance, the one that it passed nine tenths.
    assert found["interval_pinball"] == pytest.approx((0.1 * 1 + 0.1 * 2 + 0.1 * 5 + 0.9 * 3) / 4)


def test_a_prediction_sets_width_is_its_number_of_labels() -> None:
    rows = [case(0, "fog", "fog", interval=Interval(level=0.9, labels=("fog", "sun"))), case(1, "sun", "fog")]

    found = score(rows, LABELS)

    assert (found["interval_coverage"], found["interval_width"], found["interval_n"]) == (1.0, 2.0, 1)
    assert "interval_pinball" not in found


def test_the_judge_is_scored_by_itself_and_against_the_truth() -> None:
    rows = [case(i, "fog", answer, verdict=verdict) for i, (answer, verdict) in enumerate([("fog", 0.9), ("sun", 0.8), ("sun", 0.1)])]

    found = score([*rows, case(3, "fog", "fog")], LABELS, passes_at=0.8)

    assert (found["judge_n"], found["judge_alignment"]) == (3, pytest.approx(0.6))
    assert found["judge_agreement"] == pytest.approx(2 / 3)
    assert score(rows, LABELS, passes_at=0.85)["judge_agreement"] == 1.0


def test_without_verdicts_there_is_no_judge() -> None:
    assert not {"judge_n", "judge_alignment", "judge_agreement"} & score(labels(["fog"], ["fog"]), LABELS).keys()


def test_self_correction_is_the_share_of_misses_that_the_entity_follows_with_a_hit() -> None:
    ours = [
        case(0, "fog", "sun", entity="a"),
        case(1, "fog", "fog", entity="b"),
        case(2, "fog", "fog", entity="a"),
        case(3, "fog", "sun", entity="b"),
        case(4, "fog", "sun", entity="a"),
        case(5, "fog", "sun", entity="b"),
    ]
    # Wrong and followed: a's first (then right), b's second (then wrong). a's and b's last are followed by nothing.
    theirs = [row.model_copy(update={"answer": Answer(value="sun")}) for row in ours]

    found = score(ours, LABELS, zero_shot=theirs)

    assert (found["self_correction"], found["self_correction_n"], found["self_correction_lift"]) == (0.5, 2, 0.5)


def test_numbers_are_right_within_what_the_target_says_else_within_persistences_median_error() -> None:
    rows = numbers([10.0, 10.0, 10.0], [14.0, 12.0, 10.5], [9.0, 7.0, 5.0])

    assert score(rows, TargetSettings(hit_within=2.0))["self_correction"] == 1.0
    assert score(rows, TargetSettings(hit_within=1.0))["self_correction"] == 0.5
    assert score(rows, NUMBER)["self_correction"] == 1.0, "persistence's errors are 1, 3 and 5"


def test_numbers_without_a_measure_have_no_self_correction() -> None:
    found = score(numbers([10.0, 10.0], [14.0, 12.0], [None, None]), NUMBER)

    assert not {"self_correction", "self_correction_n", "mase", "directional_n"} & found.keys()


def test_where_nothing_was_wrong_there_is_nothing_to_correct() -> None:
    right, wrong = labels(["fog", "fog"], ["fog", "fog"]), labels(["fog", "fog"], ["sun", "fog"])

    assert "self_correction" not in score(right, LABELS)
    assert "self_correction_lift" not in score(wrong, LABELS, zero_shot=right)
    assert score(wrong, LABELS)["self_correction"] == 1.0


def test_a_zero_shot_arm_with_other_cases_is_refused() -> None:
    rows = labels(["fog", "fog"], ["fog", "sun"])

    with pytest.raises(ResultsUnfit, match="same cases"):
        score(rows, LABELS, zero_shot=rows[:1])


def test_costs_are_by_purpose_and_per_case_of_all_purposes() -> None:
    predict = Spent(calls=1, prompt_tokens=100, cached_tokens=80, output_tokens=5, seconds=0.5)
    rewrite = Spent(calls=2, prompt_tokens=300, cached_tokens=100, output_tokens=50, seconds=2.0)
    rows = [case(0, 1.0, 1.0, spent={"predict": predict, "rewrite": rewrite}), case(1, 1.0, 1.0, spent={"predict": predict})]

    found = score(rows, NUMBER)

    assert (found["calls"], found["calls_per_step"], found["seconds_per_step"]) == (4, 2.0, 1.5)
    assert found["tokens_per_step"] == (500 + 60) / 2
    assert found["uncached_tokens_per_step"] == (500 + 60 - 260) / 2
    assert found["spent"]["predict"] == {
        "calls": 2,
        "remembered": 0,
        "prompt_tokens": 200,
        "cached_tokens": 160,
        "output_tokens": 10,
        "seconds": 1.0,
    }
    assert found["spent"]["all"]["prompt_tokens"] == 500


def test_what_one_server_does_not_say_of_its_cache_leaves_the_sum_unknown() -> None:
    told, silent = Spent(calls=1, prompt_tokens=10, cached_tokens=5), Spent(calls=1, prompt_tokens=10)
    rows = [case(0, 1.0, 1.0, spent={"predict": told}), case(1, 1.0, 1.0, spent={"rewrite": silent})]

    found = score(rows, NUMBER)

    assert "uncached_tokens_per_step" not in found
    assert "cached_tokens" not in found["spent"]["all"]
    assert found["spent"]["predict"]["cached_tokens"] == 5


def test_a_remembered_answer_leaves_the_cache_known() -> None:
    rows = [
        case(0, 1.0, 1.0, spent={"predict": Spent(calls=1, prompt_tokens=10, cached_tokens=4)}),
        case(1, 1.0, 1.0, spent={"predict": Spent(remembered=1)}),
    ]

    assert score(rows, NUMBER)["uncached_tokens_per_step"] == 3.0


def test_an_arm_without_calls_costs_nothing() -> None:
    found = score(labels(["fog"], ["fog"]), LABELS)

    assert (found["calls"], found["tokens_per_step"], found["uncached_tokens_per_step"]) == (0, 0.0, 0.0)


def test_failures_are_counted_by_reason_and_their_answers_count() -> None:
    rows = [
        case(0, 1.0, 1.0),
        case(1, 1.0, 4.0, failed="timeout"),
        case(2, 1.0, 1.0, failed="timeout"),
        case(3, 1.0, 1.0, failed="invalid"),
    ]

    found = score(rows, NUMBER)

    assert found["failed"] == {"invalid": 1, "timeout": 2}
    assert found["mae"] == 0.75


def test_memory_is_measured_in_words_and_in_revisions_of_all_entities() -> None:
    rows = [
        case(0, 1.0, 1.0, entity="a", words=0),
        case(1, 1.0, 1.0, entity="b", words=30, revision=1),
        case(2, 1.0, 1.0, entity="a", words=60, revision=4),
    ]

    assert score(rows, NUMBER)["memory"] == {"mean_words": 30.0, "max_words": 60, "revisions": 5}


@pytest.mark.parametrize(("hits", "n"), [(0, 7), (7, 7), (1, 1), (3, 10), (53, 100), (499, 1000)])
def test_wilsons_interval_is_scipys(hits: int, n: int) -> None:
    reference = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")

    assert wilson(hits, n) == pytest.approx((reference.low, reference.high), abs=1e-12)
    assert (wilson(hits, n)[0] == 0.0) is (hits == 0)


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(st.tuples(FINITE, FINITE, st.none() | FINITE, st.none() | st.tuples(FINITE, FINITE)), min_size=1, max_size=12))
def test_whatever_finite_numbers_come_every_figure_is_finite_and_can_be_written_as_json(drawn: list[Any]) -> None:
    rows = [
        case(
            i,
            truth,
            answer,
            naive={} if last is None else {"persistence": last},
            interval=None if ends is None else Interval(level=0.9, low=min(ends), high=max(ends)),
        )
        for i, (truth, answer, last, ends) in enumerate(drawn)
    ]

    found = score(rows, NUMBER, zero_shot=rows)

    assert json.loads(json.dumps(found, allow_nan=False)) == found


MODERATE = st.floats(-1e6, 1e6)


@given(st.lists(st.tuples(MODERATE, MODERATE, MODERATE), min_size=1, max_size=40), st.randoms())
def test_figures_are_numpys_and_do_not_depend_on_the_order_of_the_rows(drawn: list[tuple[float, float, float]], random: Any) -> None:
    truths, answers, last = (np.array(column) for column in zip(*drawn, strict=True))
    rows = numbers(list(truths), list(answers), list(last))

    found = score(rows, NUMBER)

    assert found["mae"] == pytest.approx(np.mean(np.abs(truths - answers)), rel=1e-9)
    assert found["mse"] == pytest.approx(np.mean((truths - answers) ** 2), rel=1e-9)
    assert found["mae_persistence"] == pytest.approx(np.mean(np.abs(truths - last)), rel=1e-9)
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert score(shuffled, NUMBER) == found
