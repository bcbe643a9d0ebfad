"""Arms whose answers stand in another arm's results."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.messages import Answer, Interval
from streams.evaluation.derived import NO_RULE, TOO_EARLY, executed_results, guarded_results, naive_results
from streams.evaluation.results import CaseResult, Spent


def case(index: int, **given: Any) -> CaseResult:
    time = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=index)
    given = {"truth": 1.0, "answer": Answer(value=9.0), "spent": {"predict": Spent(calls=1)}, "words": 7, "revision": 2} | given
    return CaseResult(index=index, entity="here", id=str(index), time=time, **given)


def test_each_naive_forecaster_becomes_an_arm_that_answers_every_case_and_spends_nothing() -> None:
    rows = [case(0), case(1, naive={"persistence": 4.0}), case(2, naive={"persistence": 5.0, "drift": 6.0})]

    arms = naive_results(rows)

    assert {name: [(row.answer.value, row.failed) for row in arm] for name, arm in arms.items()} == {
        "persistence": [(0.0, TOO_EARLY), (4.0, ""), (5.0, "")],
        "drift": [(0.0, TOO_EARLY), (4.0, TOO_EARLY), (6.0, "")],
    }
    assert all(row.spent == {} and (row.words, row.revision) == (0, 0) for arm in arms.values() for row in arm)
    assert [(row.index, row.id, row.time, row.truth) for row in arms["drift"]] == [(row.index, row.id, row.time, row.truth) for row in rows]


def test_a_label_that_nobody_can_know_yet_is_no_label() -> None:
    rows = [
        case(0, truth="fog", answer=Answer(value="fog")),
        case(1, truth="fog", answer=Answer(value="fog"), naive={"persistence": "sun"}),
    ]

    assert [row.answer.value for row in naive_results(rows)["persistence"]] == ["", "sun"]


def test_executed_rules_answer_where_one_applies_and_persistence_elsewhere() -> None:
    rows = [case(0, executed=3.0), case(1, naive={"persistence": 4.0}), case(2)]

    arm = executed_results(rows)

    assert [(row.answer.value, row.failed) for row in arm] == [(3.0, ""), (4.0, NO_RULE), (0.0, NO_RULE)]
    assert [(row.words, row.revision, row.spent) for row in arm] == [(7, 2, {})] * 3, "the memory that was followed, at no cost"


def test_executed_rules_that_do_not_apply_leave_the_reference_forecast_as_it_is() -> None:
    rows = [case(0, executed=3.0), case(1, naive={"persistence": 4.0, "reference": 5.0})]

    assert [row.answer.value for row in executed_results(rows)] == [3.0, 5.0]


def test_a_rule_that_says_zero_applies() -> None:
    (row,) = executed_results([case(0, executed=0.0, naive={"persistence": 4.0})])

    assert (row.answer.value, row.failed) == (0.0, "")


def test_the_guarded_mixture_is_an_arm_at_the_cost_of_the_one_it_guards() -> None:
    rows = [case(0, interval=Interval(level=0.8, low=0.0, high=1.0), verdict=0.9), case(1, published=Answer(value=2.0))]

    arm = guarded_results(rows)

    assert [row.answer.value for row in arm] == [9.0, 2.0], "where nothing else was published, the arm's own"
    assert [row.spent for row in arm] == [row.spent for row in rows]
    assert [(row.interval, row.verdict, row.published) for row in arm] == [(None, None, None)] * 2


def test_what_an_arm_does_not_have_makes_no_arm() -> None:
    assert (naive_results([case(0)]), executed_results([case(0)]), guarded_results([case(0)])) == ({}, [], [])
