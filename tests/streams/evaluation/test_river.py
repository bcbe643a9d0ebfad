"""Scores agree with river's delayed progressive validation of the same arm.

An arm becomes a model of river: asked for a case, it gives the arm's stored answer. river decides by itself, from moment and delay, when
each truth arrives, which stored prediction it is scored against, and what the metrics come to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from river import base, evaluate, metrics

from schemas.messages import Answer, Value
from schemas.settings import TargetSettings
from streams.evaluation.results import CaseResult
from streams.evaluation.scores import score

NUMBER = TargetSettings()
LABELS = TargetSettings(kind="category", labels=("rain", "fog", "sun"))
#: Agreement asked for, relative.
CLOSE = 1e-9
START = datetime(2024, 1, 1, tzinfo=UTC)


class Asked:
    """The arm's stored answers, and in which order river asked and told."""

    def __init__(self, results: Sequence[CaseResult]) -> None:
        self.results = results
        self.log: list[tuple[str, int]] = []

    def predict_one(self, x: dict[str, Any]) -> Value:
        self.log.append(("asked", x["case"]))
        return self.results[x["case"]].answer.value

    def learn_one(self, x: dict[str, Any], y: Value) -> None:
        self.log.append(("told", x["case"]))


class NumberArm(Asked, base.Regressor):
    pass


class LabelArm(Asked, base.Classifier):
    @property
    def _multiclass(self) -> bool:
        return True


def stream(results: Sequence[CaseResult]) -> Iterator[tuple[dict[str, Any], Value]]:
    for row in results:
        yield {"case": row.index, "time": row.time}, row.truth


def delay(x: dict[str, Any], y: Value) -> timedelta:
    """A truth comes between one hour and four days after its observation, so truths overtake each other."""
    return timedelta(hours=1 + (x["case"] * 37) % 96)


def validated(arm: Asked, metric: Any) -> float:
    found = evaluate.progressive_val_score(stream(arm.results), arm, metric, moment="time", delay=delay)
    return float(found.get())


def results(truths: Sequence[Value], answers: Sequence[Value]) -> list[CaseResult]:
    return [
        CaseResult(index=i, entity="here", id=f"c{i}", time=START + timedelta(days=i), truth=truth, answer=Answer(value=answer))
        for i, (truth, answer) in enumerate(zip(truths, answers, strict=True))
    ]


@pytest.fixture
def numbers() -> list[CaseResult]:
    """A level that wanders, and answers of uneven size about it."""
    random = np.random.default_rng(8)
    truths = 1000.0 + random.normal(size=250).cumsum()
    return results([float(truth) for truth in truths], [float(truth) for truth in truths + random.standard_cauchy(size=250)])


@pytest.fixture
def labels() -> list[CaseResult]:
    random = np.random.default_rng(9)
    truths = [str(label) for label in random.choice(LABELS.labels, size=250)]
    return results(truths, [truth if hit else "fog" for truth, hit in zip(truths, random.random(250) < 0.6, strict=True)])


@pytest.mark.parametrize(("figure", "metric"), [("mae", metrics.MAE), ("mse", metrics.MSE), ("rmse", metrics.RMSE)])
def test_errors_are_rivers(numbers: list[CaseResult], figure: str, metric: type[Any]) -> None:
    assert score(numbers, NUMBER)[figure] == pytest.approx(validated(NumberArm(numbers), metric()), rel=CLOSE, abs=0.0)


def test_accuracy_is_rivers(labels: list[CaseResult]) -> None:
    assert score(labels, LABELS)["accuracy"] == pytest.approx(validated(LabelArm(labels), metrics.Accuracy()), rel=CLOSE, abs=0.0)


def test_an_answer_that_is_off_by_a_millionth_in_one_case_is_seen(numbers: list[CaseResult]) -> None:
    row = numbers[100]
    assert not isinstance(row.answer.value, str)
    changed = [*numbers[:100], row.model_copy(update={"answer": Answer(value=row.answer.value * (1 + 1e-6))}), *numbers[101:]]

    assert score(changed, NUMBER)["mae"] != pytest.approx(validated(NumberArm(numbers), metrics.MAE()), rel=CLOSE, abs=0.0)


def test_answers_that_stand_with_the_next_case_are_seen(labels: list[CaseResult]) -> None:
    moved = results([row.truth for row in labels], [labels[i - 1].answer.value for i in range(len(labels))])

    assert score(moved, LABELS)["accuracy"] != pytest.approx(validated(LabelArm(labels), metrics.Accuracy()), rel=CLOSE, abs=0.0)


def test_river_asked_before_it_told_and_truths_came_late_and_overtook_each_other(numbers: list[CaseResult]) -> None:
    arm = NumberArm(numbers)

    validated(arm, metrics.MAE())

    told = [case for event, case in arm.log if event == "told"]
    assert sorted(told) == list(range(250)) and told != sorted(told)
    assert all(arm.log.index(("asked", case)) < arm.log.index(("told", case)) for case in told)
    known_at = [row.time + delay({"case": row.index}, row.truth) for row in numbers]
    for place, (event, case) in enumerate(arm.log):
        if event == "asked":
            known = {other for said, other in arm.log[:place] if said == "told"}
            assert known == {other for other in range(case) if known_at[other] <= numbers[case].time}
