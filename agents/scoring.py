"""Scores of every arm against the truth, exact under corrections, and a faded view for live metrics.

An arm is a forecaster of the same stream: `published` (what went out), `model` (the model's own answer, never guarded), the memory's
`rules` executed by code, and the naive forecasters by their names. Scores come from answers stored when they were made (delayed
progressive validation). What was predicted in hindsight is not scored by the caller, and verdicts of a judge never are.

References: prequential error with a fading factor, Gama, Sebastião, Rodrigues (2013), Machine Learning 90:317-346.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from schemas.messages import Answer, ArmScore, Value
from schemas.settings import TargetSettings
from schemas.state import ArmTotals, Pending, Resolved

#: Says whether an answer is right: (answer, truth) -> hit.
Matches = Callable[[str, str], bool]

PUBLISHED, MODEL = "published", "model"
#: Decimals of errors in messages and sums; keeps bytes stable.
PRECISION = 6
#: Errors above are as bad as it gets; keeps them, their squares and all sums finite.
WORST = 1e150


def answers(row: Pending | Resolved) -> dict[str, Answer]:
    """Every arm's stored answer."""
    arms = {PUBLISHED: row.forecast}
    if row.model_answer is not None:
        arms[MODEL] = row.model_answer
    return arms | {name: Answer(value=value) for name, value in row.experts.items()}


def error(answer: Answer, truth: Value, matches: Matches) -> float:
    """Truth minus forecast for a number (target's unit); 0 for a hit and 1 for a miss otherwise."""
    if not isinstance(truth, str) and not isinstance(answer.value, str):
        return difference(truth, answer.value)
    return 0.0 if matches(str(answer.value), str(truth)) else 1.0


def difference(truth: float, forecast: float) -> float:
    """Truth minus forecast, rounded to `PRECISION`, and finite whatever the two are."""
    return round(min(max(truth - forecast, -WORST), WORST), PRECISION) + 0.0


def errors(row: Pending | Resolved, truth: Value, matches: Matches) -> dict[str, float]:
    """Each arm's error; arms that gave no answer are absent."""
    return {arm: error(answer, truth, matches) for arm, answer in answers(row).items()}


def add(
    totals: Mapping[str, ArmTotals],
    row: Pending | Resolved,
    truth: Value,
    target: TargetSettings,
    matches: Matches,
    *,
    fading: float | None,
) -> dict[str, ArmTotals]:
    """Count one outcome for every arm. `fading` None leaves the faded view alone, as a correction must."""
    counted = dict(totals)
    for arm, answer in answers(row).items():
        before = counted.get(arm, ArmTotals())
        after = _count(before, answer, truth, target, matches, +1)
        if fading is not None:
            missed = error(answer, truth, matches)
            loss = abs(missed) if target.kind == "number" else 1.0 - missed
            faded, weight = fading * before.faded + loss, fading * before.faded_n + 1.0
            after = after.model_copy(update={"faded": round(faded, PRECISION), "faded_n": round(weight, PRECISION)})
        counted[arm] = after
    return counted


def remove(totals: Mapping[str, ArmTotals], row: Resolved, target: TargetSettings, matches: Matches) -> dict[str, ArmTotals]:
    """Take an outcome out again because its truth was corrected; the faded view is not rewound."""
    counted = dict(totals)
    if row.truth is None:
        return counted
    for arm, answer in answers(row).items():
        if arm in counted:
            counted[arm] = _count(counted[arm], answer, row.truth, target, matches, -1)
    return counted


def _count(totals: ArmTotals, answer: Answer, truth: Value, target: TargetSettings, matches: Matches, sign: int) -> ArmTotals:
    missed = error(answer, truth, matches)
    update: dict[str, float | int] = {"n": max(0, totals.n + sign)}
    if target.kind == "number":
        update["abs_sum"] = round(totals.abs_sum + sign * abs(missed), PRECISION)
        update["square_sum"] = round(totals.square_sum + sign * round(missed**2, PRECISION), PRECISION)
        hit = target.hit_within is not None and abs(missed) <= target.hit_within
    else:
        hit = missed == 0.0
        listed = answer.top or (str(answer.value),)
        update["top_hits"] = max(0, totals.top_hits + sign * (hit or truth in listed[: target.top_k]))
    update["hits"] = max(0, totals.hits + sign * hit)
    return totals.model_copy(update=update)


def view(totals: Mapping[str, ArmTotals], target: TargetSettings) -> dict[str, ArmScore]:
    """The sums as scores, for messages."""
    scores = {}
    for arm, t in totals.items():
        if not t.n:
            continue
        faded = round(t.faded / t.faded_n, PRECISION) if t.faded_n else None
        if target.kind == "number":
            accuracy = round(t.hits / t.n, PRECISION) if target.hit_within is not None else None
            mae, mse = round(t.abs_sum / t.n, PRECISION), round(t.square_sum / t.n, PRECISION)
            scores[arm] = ArmScore(n=t.n, mae=mae, mse=mse, accuracy=accuracy, faded=faded)
        else:
            top = round(t.top_hits / t.n, PRECISION) if target.kind == "category" else None
            scores[arm] = ArmScore(n=t.n, accuracy=round(t.hits / t.n, PRECISION), top_k=top, faded=faded)
    return scores
