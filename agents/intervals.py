"""Prediction intervals and prediction sets, calibrated online from delayed truths.

Adaptive conformal inference (Gibbs and Candès, "Adaptive Conformal Inference Under Distribution Shift", NeurIPS 2021, arXiv
2106.00170): an interval is the forecast plus and minus a quantile of the latest absolute residuals; the quantile's level moves a step
down after a truth outside its stored interval and up after one inside, so that the long-run share of misses approaches the nominal one
whatever the data do. Each truth is held against the interval that was stored with its prediction, in order of arrival, which is what
keeps this sound when truths are late.

For a category the residual is the rank of the truth in the published ranking (one more than its length where it is not in it), and
the set holds the labels up to the quantile's rank; beyond the ranking it is all labels. A text has no interval.

The paper's guarantee needs an unbounded interval when the working level falls to 0. Here it is twice the largest residual kept: a
finite interval that a reader can use, and which covers a little less than promised while a stream breaks away.
"""

from __future__ import annotations

from math import ceil

from schemas.messages import Answer, Interval, Value
from schemas.settings import Settings
from schemas.state import IntervalState

#: Residuals before a first interval; with fewer a quantile says nothing.
ENOUGH = 8
#: Residuals kept. More: narrower noise in the quantile, slower to follow a change.
KEPT = 100
#: Step of the working miscoverage. The paper uses 0.005 on thousands of days; entities here see hundreds.
STEP = 0.02


def interval_for(state: IntervalState, forecast: Answer, settings: Settings) -> Interval | None:
    """The interval to publish with a forecast; None for texts and before `ENOUGH` residuals.

    Examples
    --------
    >>> known = IntervalState(residuals=(1.0,) * 8)
    >>> interval = interval_for(known, Answer(value=20.0), Settings())
    >>> interval.low, interval.high
    (19.0, 21.0)
    """
    target, level = settings.target, settings.publish.level
    if target.kind == "text" or len(state.residuals) < ENOUGH:
        return None
    width = _quantile(state.residuals, state.alpha if state.alpha is not None else 1.0 - level)
    if target.kind == "category":
        ranked = forecast.top or (str(forecast.value),)
        rank = max(ceil(width), 1)
        labels = ranked[:rank] if rank <= len(ranked) else (*ranked, *(label for label in target.labels if label not in ranked))
        return Interval.model_construct(level=level, labels=labels)
    if isinstance(forecast.value, str):
        return None
    digits = target.decimals + 2
    low, high = forecast.value - width, forecast.value + width
    if target.range is not None:
        low, high = max(low, min(target.range[0], forecast.value)), min(high, max(target.range[1], forecast.value))
    return Interval.model_construct(level=level, low=round(low, digits), high=round(high, digits))


def update(state: IntervalState, forecast: Answer, interval: Interval | None, truth: Value, settings: Settings) -> IntervalState:
    """Learn from a first truth: `forecast` and `interval` are those stored with the prediction."""
    kind = settings.target.kind
    if kind == "text":
        return state
    if kind == "category":
        ranked = forecast.top or (str(forecast.value),)
        residual = float(ranked.index(str(truth)) + 1 if truth in ranked else len(ranked) + 1)
    else:
        residual = round(abs(float(truth) - float(forecast.value)), settings.target.decimals + 4)
    alpha = state.alpha
    if interval is not None:
        nominal = 1.0 - interval.level
        missed = 0.0 if _covers(interval, truth) else 1.0
        alpha = (alpha if alpha is not None else nominal) + STEP * (nominal - missed)
        alpha = round(min(max(alpha, -STEP), 1.0), 6)
    return IntervalState.model_construct(alpha=alpha, residuals=(*state.residuals[-KEPT + 1 :], residual))


def _covers(interval: Interval, truth: Value) -> bool:
    if isinstance(truth, str):
        return truth in interval.labels
    low = interval.low if interval.low is not None else truth
    high = interval.high if interval.high is not None else truth
    return low <= truth <= high


def _quantile(residuals: tuple[float, ...], alpha: float) -> float:
    ordered = sorted(residuals)
    if alpha <= 0.0:
        return 2.0 * ordered[-1]
    rank = ceil((len(ordered) + 1) * (1.0 - alpha))
    return ordered[min(max(rank, 1), len(ordered)) - 1]
