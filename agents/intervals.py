"""Prediction intervals for numbers and prediction sets for labels, calibrated online from delayed truths.

Adaptive conformal inference: the width is a quantile of the latest residuals, and the quantile's level moves with every outcome, up after
a miss and down after a hit, so that in the long run the share of truths inside comes to `level` whatever the stream does, with no
assumption of exchangeability. The error that moves it is that of the interval stored with the prediction, so delay only makes it later.
The paper's guarantee asks for boundless intervals where the working miscoverage falls to 0. Here they are `BEYOND` times the largest
residual: a reader can use them, and they cover a little less while a stream breaks away.

A number's residual is its absolute error; a label's is its rank, 1 for the label that was forecast. A set holds the first so many
labels, so it misses its level in single steps and meets it on average.

References: Gibbs, Candès (2021), Adaptive Conformal Inference Under Distribution Shift, NeurIPS, arXiv 2106.00170; delayed: Angelopoulos,
Candès, Tibshirani (2023), Conformal PID Control for Time Series Prediction, NeurIPS, arXiv 2307.16895 (the quantile of a window).
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Mapping

from agents import experts
from schemas.messages import Answer, Interval, Value
from schemas.settings import TargetSettings
from schemas.state import IntervalState

#: Residuals below which there is no interval: a quantile of fewer says nothing.
ENOUGH = 8
#: Residuals kept. More follow a change too late, fewer make high levels a matter of the largest one.
WINDOW = 100
#: How far an outcome moves the working miscoverage. The paper uses 0.005 on streams of thousands; from 0.02 on, truths that come fifty
#: outcomes late make it swing.
RATE = 0.01
#: Where even the largest residual does not do, the interval is this many times as wide.
BEYOND = 2.0
#: Decimals of the working miscoverage, significant digits of a residual.
PRECISION = 6


def interval(state: IntervalState, answer: Answer, forecasts: Mapping[str, Value], target: TargetSettings, level: float) -> Interval | None:
    """What should hold the truth with probability `level`; None for texts and before `ENOUGH` outcomes.

    Parameters
    ----------
    answer
        The published forecast: the middle of a number's interval, the head of a set.
    forecasts
        Every arm's forecast; labels they name come before the others in a set.
    """
    if target.kind == "text" or len(state.residuals) < ENOUGH:
        return None
    width = _quantile(state.residuals, 1.0 - level if state.alpha is None else state.alpha)
    if target.kind == "category":
        named = Counter(str(forecasts[name]) for name in sorted(forecasts))
        order = _order((str(answer.value), *answer.top, *(label for label, _ in named.most_common())), target)
        return Interval(level=level, labels=order[: max(1, math.ceil(width))])
    if isinstance(answer.value, str):
        return None
    most = sys.float_info.max
    low, high = max(answer.value - width, -most), min(answer.value + width, most)
    return Interval(level=level, low=experts.settled(low, target), high=experts.settled(high, target))


def learn(
    state: IntervalState, stored: Interval | None, answer: Answer, truth: Value, target: TargetSettings, level: float
) -> IntervalState:
    """Take in one outcome, with the interval and answer stored when its prediction was made. Call it in the order of arrival."""
    residual = _residual(stored, answer, truth, target)
    if residual is None:
        return state
    alpha = state.alpha
    if stored is not None:
        alpha = 1.0 - level if alpha is None else alpha
        alpha += RATE * ((1.0 - level) - (0.0 if covers(stored, truth) else 1.0))
        # Outside [0, 1] the quantile moves no further, and what was wound up there would have to be unwound first.
        alpha = round(min(max(alpha, 0.0), 1.0), PRECISION)
    return IntervalState(alpha=alpha, residuals=(*state.residuals, residual)[-WINDOW:])


def covers(stored: Interval, truth: Value) -> bool:
    """Whether the truth lies inside, bounds included.

    Examples
    --------
    >>> covers(Interval(level=0.8, low=1.0, high=2.0), 2.0), covers(Interval(level=0.8, labels=("rain",)), "sun")
    (True, False)
    """
    if isinstance(truth, str):
        return truth in stored.labels
    return (stored.low is None or stored.low <= truth) and (stored.high is None or truth <= stored.high)


def _quantile(residuals: tuple[float, ...], alpha: float) -> float:
    """The conformal quantile at miscoverage `alpha`: the ceil((n + 1)(1 - alpha))-th smallest residual."""
    rank = math.ceil(round((len(residuals) + 1) * (1.0 - alpha), PRECISION))
    if rank > len(residuals):
        return BEYOND * max(residuals)
    return sorted(residuals)[rank - 1] if rank > 0 else 0.0


def _residual(stored: Interval | None, answer: Answer, truth: Value, target: TargetSettings) -> float | None:
    if target.kind == "number" and not isinstance(truth, str) and not isinstance(answer.value, str):
        return float(f"{min(abs(truth - answer.value), sys.float_info.max / BEYOND):.{PRECISION}g}")
    if target.kind == "category" and truth in target.labels:
        order = _order((*(stored.labels if stored is not None else ()), str(answer.value), *answer.top), target)
        return float(order.index(str(truth)) + 1)
    return None


def _order(first: tuple[str, ...], target: TargetSettings) -> tuple[str, ...]:
    """All labels, those named first in front, each once."""
    return tuple(dict.fromkeys((*first, *target.labels)))
