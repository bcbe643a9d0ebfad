"""Which outcomes of two applications are compared, and what is told about those that are not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.messages import Answer, Outcome
from schemas.settings import Settings
from streams.evaluation.outcomes import (
    NotComparable,
    NothingInCommon,
    Side,
    check_comparable,
    join,
    judge,
    last_words,
    needed,
    results,
)

START = datetime(2024, 3, 1, tzinfo=UTC)


def outcome(number: int, truth: Any = 10.0, forecast: Any = 9.0, **fields: Any) -> Outcome:
    kind = "category" if isinstance(forecast, str) else "number"
    known: dict[str, Any] = {"entity": "north", "source": "model", "result": "matched" if truth is not None else "missing", **fields}
    time = START + timedelta(hours=number)
    return Outcome(
        prediction_id=f"o{number}", kind=kind, time=time, truth=truth, forecast=Answer(value=forecast), resolved_at=time, **known
    )


def side(app: str, *outcomes: Outcome) -> Side:
    found, left_out = last_words(outcomes)
    return Side(app, f"{app}.outcomes", found, left_out)


def settings_of(app: str, **sections: Any) -> Settings:
    topics = {"outcomes": f"{app}.outcomes", **sections.pop("topics", {})}
    return Settings(app=app, topics=topics, **sections)


def test_the_last_word_on_a_prediction_counts() -> None:
    found, left_out = last_words([outcome(1, truth=10.0), outcome(2), outcome(1, truth=12.0, result="corrected")])
    assert {key: one.truth for key, one in found.items()} == {("north", "o1"): 12.0, ("north", "o2"): 10.0}
    assert not left_out


def test_a_truth_that_came_after_all_counts_and_what_met_none_is_counted_apart() -> None:
    found, left_out = last_words(
        [
            outcome(1, truth=None),
            outcome(1, truth=11.0, flags=("late",)),
            outcome(2, truth=None),
            outcome(3, truth=None, result="judged", verdict=0.7),
            outcome(4, flags=("hindsight",)),
        ]
    )
    assert [one.truth for one in found.values()] == [11.0]
    assert left_out == {"missing": 1, "judged": 1, "hindsight": 1}


def test_pairs_are_the_same_observation_with_the_same_truth_in_the_order_of_time() -> None:
    first = side("old", outcome(3), outcome(1), outcome(2, truth=5.0), outcome(7), outcome(1, entity="south"))
    second = side("new", outcome(1), outcome(2, truth=6.0), outcome(3), outcome(8), outcome(9))
    joined = join(first, second)
    assert [one.prediction_id for one in joined.first] == [one.prediction_id for one in joined.second] == ["o1", "o3"]
    assert (joined.only_first, joined.only_second, joined.truths_differ) == (2, 2, 1)


@pytest.mark.parametrize("second", [[], [outcome(9)], [outcome(1, truth=99.0)]])
def test_without_a_pair_there_is_nothing_to_compare(second: list[Outcome]) -> None:
    with pytest.raises(NothingInCommon, match=r"old and new have no outcome in common: 1 in old\.outcomes"):
        join(side("old", outcome(1)), side("new", *second))


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ({"app": "old", "topics": {"outcomes": "others"}}, "both are the application 'old'"),
        ({"app": "new", "topics": {"outcomes": "old.outcomes"}}, "write their outcomes to one topic, old.outcomes"),
        ({"app": "new", "target": {"kind": "text"}}, "target.kind differs: old has number, new has text"),
    ],
)
def test_what_are_no_two_applications_on_one_stream_is_refused(second: dict[str, Any], said: str) -> None:
    with pytest.raises(NotComparable, match=said):
        check_comparable(settings_of("old"), settings_of(**second))


def test_other_labels_are_another_target_and_the_scorer_counts_for_texts_alone() -> None:
    labels = {"kind": "category", "labels": ("low", "high")}
    with pytest.raises(NotComparable, match=r"target\.labels differs: old has low, high, new has low, high, none"):
        check_comparable(settings_of("old", target=labels), settings_of("new", target={**labels, "labels": ("low", "high", "none")}))
    check_comparable(settings_of("old"), settings_of("new", target={"scorer": "exact"}))
    with pytest.raises(NotComparable, match=r"target\.scorer differs"):
        check_comparable(settings_of("old", target={"kind": "text"}), settings_of("new", target={"kind": "text", "scorer": "exact"}))


def test_published_forecasts_and_the_models_own_are_compared_apart() -> None:
    old = [outcome(n, 10.0 + n % 3, 8.0, model_answer=Answer(value=9.5 + n % 3)) for n in range(60)]
    new = [outcome(n, 10.0 + n % 3, 9.8 + n % 2 / 10 + n % 3, model_answer=Answer(value=7.0) if n else None) for n in range(60)]
    verdict = judge(join(side("old", *old), side("new", *new)), settings_of("old"))
    assert (verdict.published.better, verdict.published.n) == (True, 60)
    assert (verdict.model.worse, verdict.model.better) == (True, False)
    assert verdict.unanswered == (0, 1)


def test_where_the_model_gave_no_answer_its_own_is_what_was_published_and_says_so() -> None:
    (row,) = results([outcome(1, errors={"published": 1.0, "persistence": -2.0})], own=True)
    assert (row.answer.value, row.failed, row.naive) == (9.0, "no answer", {"persistence": 12.0})


def test_how_many_outcomes_it_takes_grows_with_the_square_of_how_small_the_difference_is() -> None:
    labels = {"kind": "category", "labels": ("low", "high")}

    def told(hits_of_new: int) -> int | None:
        old = [outcome(n, "high", "high" if n % 10 < 5 else "low") for n in range(100)]
        new = [outcome(n, "high", "high" if (n * 7) % 100 < hits_of_new else "low") for n in range(100)]
        return needed(judge(join(side("old", *old), side("new", *new)), settings_of("old", target=labels)).published)

    few, many = told(58), told(54)
    assert few is not None
    assert many is not None
    assert 100 < few < many
    assert many / few == pytest.approx(4, rel=0.2)
    assert told(50) is None
