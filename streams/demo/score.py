"""Scores of a run, computed here from predictions and the truths that were sent, and held against the worker's running scores.

Arms are `published` (the guarded mixture), `model` (its own answers, never guarded) and the naive forecasters; `persistence` is "same as
last time". A prediction counts once its outcome came, and in hindsight it does not count (design: what was predicted after its truth was
known says nothing).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from schemas.messages import Answer, ArmScore, Prediction, Value
from streams.demo.record import Record, Step

#: The expert that repeats the last value, under the name that people know it by.
ALIASES = {"last": "persistence"}
#: Shown first, in this order.
LEADING = ("published", "model", "persistence")
#: Two ways of adding up the same floats differ in their last digits.
TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Score:
    """One arm's score. Number: `mae` and `mse`; category: `accuracy`, and `top_k` where the arm ranks labels."""

    n: int
    mae: float | None = None
    mse: float | None = None
    accuracy: float | None = None
    top_k: float | None = None

    def figures(self) -> dict[str, float]:
        """The metrics that this kind of target has."""
        named = {"mae": self.mae, "mse": self.mse, "accuracy": self.accuracy, "top_k": self.top_k}
        return {name: value for name, value in named.items() if value is not None}


def answers(prediction: Prediction) -> dict[str, Answer]:
    """Every arm's answer in a prediction; the model is missing where it gave none."""
    arms = {"published": prediction.forecast}
    if prediction.model_answer is not None:
        arms["model"] = prediction.model_answer
    for name, value in prediction.experts.items():
        arms.setdefault(ALIASES.get(name, name), Answer(value=value))
    return arms


def error(answer: Value, truth: Value) -> float:
    """Truth minus forecast for a number (target's unit), else 0 for a hit and 1 for a miss."""
    if isinstance(answer, str) or isinstance(truth, str):
        return 0.0 if answer == truth else 1.0
    return truth - answer


def scores(steps: Iterable[Step], top_k: int) -> dict[str, Score]:
    """Score every arm over the labelled steps.

    Parameters
    ----------
    steps
        Steps in any state; those without truth, and those in hindsight, are left out.
    top_k
        How many ranked labels count as a hit in the metric `top_k`.

    Returns
    -------
    dict
        By arm: the three that matter first, then the others by name.
    """
    gathered: dict[str, list[tuple[Answer, Value]]] = {}
    for step in steps:
        if step.prediction is None or step.outcome is None or not step.labelled or "hindsight" in step.outcome.flags:
            continue
        for arm, answer in answers(step.prediction).items():
            gathered.setdefault(arm, []).append((answer, step.question.truth))
    order = [arm for arm in LEADING if arm in gathered] + sorted(arm for arm in gathered if arm not in LEADING)
    return {arm: _score(gathered[arm], top_k) for arm in order}


def differences(ours: dict[str, Score], theirs: dict[str, ArmScore]) -> list[str]:
    """Where the worker's running scores say something else than the scores computed here; empty if nowhere."""
    found = []
    for arm in sorted(ours.keys() | theirs.keys()):
        here, there = ours.get(arm), theirs.get(arm)
        if here is None or there is None:
            found.append(f"{arm}: only {'the worker' if here is None else 'the demo'} scores it")
            continue
        if here.n != there.n:
            found.append(f"{arm}: {here.n} outcomes here, {there.n} by the worker")
        for metric, value in here.figures().items():
            running = getattr(there, metric)
            if running is not None and not math.isclose(value, running, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
                found.append(f"{arm}: {metric} {value:.6g} here, {running:.6g} by the worker")
    return found


def running_scores(record: Record) -> dict[str, ArmScore]:
    """The worker's own scores, as its newest outcome carries them."""
    newest = [step.outcome for step in record.steps if step.outcome is not None]
    return newest[-1].scores if newest else {}


def coverage(steps: Iterable[Step]) -> float | None:
    """Share of labelled predictions whose interval (or prediction set) held the truth; None without any interval."""
    held = [_holds(step) for step in steps if step.labelled]
    told = [inside for inside in held if inside is not None]
    return sum(told) / len(told) if told else None


def percentile(values: Iterable[float], share: float) -> float | None:
    """Nearest-rank percentile; None of nothing.

    Examples
    --------
    >>> percentile([3.0, 1.0, 2.0, 10.0], 0.5), percentile([3.0, 1.0, 2.0, 10.0], 0.95)
    (2.0, 10.0)
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def _score(pairs: list[tuple[Answer, Value]], top_k: int) -> Score:
    n = len(pairs)
    errors = [error(answer.value, truth) for answer, truth in pairs]
    if not isinstance(pairs[0][1], str):
        return Score(n, mae=sum(map(abs, errors)) / n, mse=sum(e * e for e in errors) / n)
    ranked = all(answer.top for answer, _ in pairs)
    return Score(
        n,
        accuracy=1 - sum(errors) / n,
        top_k=sum(truth in answer.top[:top_k] for answer, truth in pairs) / n if ranked else None,
    )


def _holds(step: Step) -> bool | None:
    interval, truth = step.prediction.interval if step.prediction else None, step.question.truth
    if interval is None:
        return None
    if isinstance(truth, str):
        return truth in interval.labels if interval.labels else None
    if interval.low is None or interval.high is None:
        return None
    return interval.low <= truth <= interval.high
