"""Tests of `streams.demo.score`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from schemas.messages import Answer, ArmScore
from streams.demo.driver import Driver, Patience
from streams.demo.record import Record
from streams.demo.score import Score, answers, coverage, differences, percentile, running_scores, scores

Make = Callable[..., Any]
PATIENT = Patience(prediction=30, outcome=30)


async def played(record: Record, worker: Any) -> Record:
    await Driver(record, worker, patience=PATIENT).run()
    return record


async def test_numbers_are_scored_by_the_mean_absolute_and_squared_error_of_each_arm(make_record: Make, make_worker: Make) -> None:
    record = await played(make_record(steps=7), make_worker())
    errors = [float(step.question.truth) - float(step.question.day.values["temp_max"]) for step in record.steps]  # type: ignore[arg-type]
    found = scores(record.steps, top_k=2)
    assert list(found) == ["published", "model", "persistence"]
    assert found["persistence"].mae == pytest.approx(sum(map(abs, errors)) / 7)
    assert found["published"].mse == pytest.approx(sum(e * e for e in errors) / 7)
    assert found["model"].accuracy is None


async def test_labels_are_scored_by_accuracy_and_by_the_ranks_of_arms_that_have_ranks(make_record: Make, make_worker: Make) -> None:
    record = await played(make_record("class", steps=20), make_worker(target="class"))
    found = scores(record.steps, top_k=2)
    hits = sum(step.question.truth == step.question.day.values["weather"] for step in record.steps)
    assert found["published"].accuracy == pytest.approx(hits / 20)
    assert found["published"].top_k is not None
    assert found["persistence"].top_k is None


async def test_an_arm_is_scored_over_the_predictions_in_which_it_answered(make_record: Make, make_worker: Make) -> None:
    record = await played(make_record(steps=6), make_worker(modelless={0, 3}))
    found = scores(record.steps, top_k=2)
    assert (found["published"].n, found["model"].n) == (6, 4)


async def test_what_was_predicted_in_hindsight_does_not_count(make_record: Make, make_worker: Make) -> None:
    record = await played(make_record(steps=4), make_worker())
    outcome = record.steps[1].outcome
    assert outcome is not None
    record.steps[1].outcome = outcome.model_copy(update={"flags": ("hindsight",)})
    assert scores(record.steps, top_k=2)["published"].n == 3


async def test_scores_agree_with_the_workers_running_scores(make_record: Make, make_worker: Make) -> None:
    record = await played(make_record(steps=7), make_worker())
    assert differences(scores(record.steps, 2), running_scores(record)) == []


def test_each_way_to_disagree_is_named() -> None:
    ours = {"published": Score(3, mae=1.0), "model": Score(3, mae=1.0), "drift": Score(3, mae=1.0)}
    theirs = {"published": ArmScore(n=3, mae=1.1), "model": ArmScore(n=2, mae=1.0), "mean": ArmScore(n=3, mae=1.0)}
    found = differences(ours, theirs)
    assert len(found) == 4
    assert "published: mae 1 here, 1.1 by the worker" in found


async def test_the_expert_that_repeats_the_last_value_is_called_persistence(make_record: Make, make_worker: Make) -> None:
    record = await played(make_record(steps=1), make_worker())
    prediction = record.steps[0].prediction
    assert prediction is not None
    assert set(answers(prediction)) == {"published", "model", "persistence"}
    renamed = prediction.model_copy(update={"experts": {"persistence": 3.0}})
    assert answers(renamed)["persistence"] == Answer(value=3.0)


async def test_coverage_counts_intervals_and_sets_that_held_the_truth(make_record: Make, make_worker: Make) -> None:
    record = await played(make_record(steps=7), make_worker())
    held = sum(abs(float(step.question.truth) - float(step.question.day.values["temp_max"])) <= 2 for step in record.steps)  # type: ignore[arg-type]
    assert coverage(record.steps) == pytest.approx(held / 7)
    labelled = await played(make_record("class", steps=10), make_worker(target="class"))
    assert coverage(labelled.steps) == pytest.approx(
        sum(step.question.truth in (step.question.day.values["weather"], "snow") for step in labelled.steps) / 10
    )
    assert coverage([]) is None


def test_a_percentile_is_a_value_that_occurred() -> None:
    values = [float(i) for i in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.95), percentile([], 0.5)) == (50.0, 95.0, None)
