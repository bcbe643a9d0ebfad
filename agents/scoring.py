"""Scores by arm: what each forecaster's stored answer was worth once the truth came.

Arms are `published`, `model`, `rules` (the memory's rules executed by code) and the naive forecasters, of which the last value goes by
the name `persistence`. Beside them stands `judged`: verdicts of a judge, never mixed with scores against truth.

The plain sums are exact under corrections (an old error is taken out, the new one put in); the faded score is not rewound. Predictions
made in hindsight, and rows that were never published, are left out by the caller (`is_headline`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from agents.text_scoring import needs_verdict, same_text
from schemas.messages import Answer, ArmScore, Kind, Value
from schemas.settings import Settings
from schemas.state import ArmTotals, Pending, Resolved

PUBLISHED = "published"
MODEL = "model"
RULES = "rules"
PERSISTENCE = "persistence"
JUDGED = "judged"

#: Sums are kept to so many decimals, so that taking out what was put in leaves no dust.
_DIGITS = 9


class Score(NamedTuple):
    """One arm's outcome: truth minus forecast for a number, else 0 (hit) or 1 (miss); and whether the truth was among its ranked labels."""

    error: float
    top: bool


def is_headline(row: Pending | Resolved) -> bool:
    """Whether a row counts in the running scores: it was published, and made without knowing its own or a later truth."""
    return "hindsight" not in row.flags and "conflated" not in row.flags


def arms(row: Pending | Resolved) -> dict[str, Answer | Value]:
    """The answers stored with a prediction, by arm."""
    found: dict[str, Answer | Value] = {PUBLISHED: row.forecast}
    if row.model_answer is not None:
        found[MODEL] = row.model_answer
    for name, value in row.experts.items():
        found[PERSISTENCE if name == "last" else name] = value
    return found


def score(row: Pending | Resolved, truth: Value | None, settings: Settings, *, passed: bool | None = None) -> dict[str, Score]:
    """Score every arm of a row.

    Parameters
    ----------
    passed
        Text with a checker or a judge as scorer: the verdict on the published answer. The model's arm gets it too where its answer
        is what was published; other arms are not scored, since a verdict on them was not asked for.
    """
    kind = settings.target.kind
    found = arms(row)
    if passed is not None:
        verdict = Score(0.0 if passed else 1.0, passed)
        return {arm: verdict for arm in (PUBLISHED, MODEL) if arm in found}
    if truth is None:
        return {}
    scores: dict[str, Score] = {}
    for arm, answer in found.items():
        value, top = (answer.value, answer.top) if isinstance(answer, Answer) else (answer, ())
        if kind == "number":
            scores[arm] = Score(round(float(truth) - float(value), _DIGITS) + 0.0, False)
        elif kind == "category":
            scores[arm] = Score(0.0 if value == truth else 1.0, truth in top or value == truth)
        else:
            hit = same_text(str(value), str(truth), settings.target.scorer)
            scores[arm] = Score(0.0 if hit else 1.0, hit)
    return scores


def score_again(row: Resolved, settings: Settings) -> dict[str, Score]:
    """The scores that a resolved row was counted with; a verdict is not asked for again but read off the row."""
    if row.truth is None and not needs_verdict(settings.target.scorer):
        return {}
    if settings.target.kind == "text" and needs_verdict(settings.target.scorer):
        return score(row, row.truth, settings, passed=not row.miss) if row.result == "matched" else {}
    return score(row, row.truth, settings)


def add(totals: Mapping[str, ArmTotals], scores: Mapping[str, Score], kind: Kind, fading: float) -> dict[str, ArmTotals]:
    """Count a first outcome, in the plain sums and in the faded score."""
    after = dict(totals)
    for arm, found in scores.items():
        old = after.get(arm) or ArmTotals()
        gained = abs(found.error) if kind == "number" else 1.0 - found.error
        after[arm] = _shift(old, found, kind, 1).model_copy(
            update={"faded": round(fading * old.faded + gained, _DIGITS), "faded_n": round(fading * old.faded_n + 1.0, _DIGITS)}
        )
    return after


def replace(totals: Mapping[str, ArmTotals], old: Mapping[str, Score], new: Mapping[str, Score], kind: Kind) -> dict[str, ArmTotals]:
    """Replace an outcome by its correction, in the plain sums alone."""
    after = dict(totals)
    for arm, found in old.items():
        after[arm] = _shift(after.get(arm) or ArmTotals(), found, kind, -1)
    for arm, found in new.items():
        after[arm] = _shift(after.get(arm) or ArmTotals(), found, kind, 1)
    return after


def _shift(totals: ArmTotals, found: Score, kind: Kind, sign: int) -> ArmTotals:
    if kind == "number":
        update: dict[str, object] = {
            "n": totals.n + sign,
            "abs_sum": round(totals.abs_sum + sign * abs(found.error), _DIGITS),
            "square_sum": round(totals.square_sum + sign * found.error * found.error, _DIGITS),
        }
    else:
        update = {
            "n": totals.n + sign,
            "hits": totals.hits + sign * (found.error == 0.0),
            "top_hits": totals.top_hits + sign * found.top,
        }
    return totals.model_copy(update=update)


def view(totals: Mapping[str, ArmTotals], kind: Kind) -> dict[str, ArmScore]:
    """The running scores as an outcome publishes them.

    Examples
    --------
    >>> view({"published": ArmTotals(n=2, abs_sum=3.0, square_sum=5.0, faded=2.98, faded_n=1.98)}, "number")["published"].mae
    1.5
    """
    return {arm: _arm_view(found, "accuracy" if arm == JUDGED else kind) for arm, found in totals.items() if found.n > 0}


def _arm_view(totals: ArmTotals, kind: str) -> ArmScore:
    faded = round(totals.faded / totals.faded_n, 6) if totals.faded_n else None
    if kind == "number":
        mae, mse = round(totals.abs_sum / totals.n, 6), round(totals.square_sum / totals.n, 6)
        return ArmScore.model_construct(n=totals.n, mae=mae, mse=mse, faded=faded)
    accuracy = round(totals.hits / totals.n, 6)
    top = round(totals.top_hits / totals.n, 6) if kind == "category" else None
    return ArmScore.model_construct(n=totals.n, accuracy=accuracy, top_k=top, faded=faded)
