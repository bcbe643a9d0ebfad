"""Naive forecasters of one entity's target: cheap, known to everybody, and hard to beat on plain numbers.

Numbers: `persistence` (last value), `drift` (last value and the mean step so far), `mean`, `moving-mean` (the last `WINDOW` values) and,
where the settings name a season, `seasonal` (the value one season before the one to come). Labels: `persistence`, `most-frequent`,
`markov` (the label that followed the present one most often). Texts: `persistence`.

All learn from truths in the order of their target times and forecast the next value; a step costs O(1), or O(labels) for labels, and the
state is bounded. What they know depends on truths alone, so no model, however hostile, can move them. Weighing them is left to
`agents.mixture`.

References: Hyndman, Athanasopoulos, Forecasting: Principles and Practice, 3rd ed. (2021), section 5.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime

from schemas.messages import Value
from schemas.settings import TargetSettings
from schemas.state import ExpertsState

PERSISTENCE, DRIFT, MEAN, MOVING_MEAN, SEASONAL = "persistence", "drift", "mean", "moving-mean", "seasonal"
MOST_FREQUENT, MARKOV = "most-frequent", "markov"

#: Values in the moving mean: a week of daily ones.
WINDOW = 7
#: Decimals of a forecast beyond the target's own, so that averages are not rounded to what they average.
EXTRA_DECIMALS = 2
#: Significant digits of the running mean; what lies beyond depends on the order of summation.
DIGITS = 12


def names(target: TargetSettings) -> tuple[str, ...]:
    """The experts of this kind of target, the one to start with first."""
    if target.kind == "number":
        return (PERSISTENCE, DRIFT, MEAN, MOVING_MEAN, *((SEASONAL,) if target.season else ()))
    return (PERSISTENCE, MOST_FREQUENT, MARKOV) if target.kind == "category" else (PERSISTENCE,)


def update(state: ExpertsState, value: Value, time: datetime, target: TargetSettings) -> ExpertsState:
    """Take in the target's value at `time`; one that is not newer than the last changes nothing, nor does one of another kind.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> first = update(ExpertsState(), 3.0, datetime(2024, 1, 1, tzinfo=UTC), TargetSettings())
    >>> forecasts(update(first, 5.0, datetime(2024, 1, 2, tzinfo=UTC), TargetSettings()), TargetSettings(), None)
    {'persistence': 5.0, 'drift': 7.0, 'mean': 4.0, 'moving-mean': 4.0}
    """
    known = _fitting(value, target)
    if known is None or (state.last_time is not None and time <= state.last_time):
        return state
    n = 1 if isinstance(known, float) and state.first is None else state.n + 1
    changed: dict[str, object] = {"n": n, "last": known, "last_time": time}
    if isinstance(known, float):
        # A convex combination: finite for any two finite numbers, unlike `mean + (value - mean) / n`.
        mean = state.mean * ((n - 1) / n) + known / n
        changed["mean"] = float(f"{mean:.{DIGITS}g}")
        changed["first"] = known if state.first is None else state.first
        changed["recent"] = (*state.recent, known)[-max(WINDOW, target.season) :]
    elif target.kind == "category":
        changed["counts"] = _counted(state.counts, known)
        if isinstance(state.last, str) and state.last in target.labels:
            followers = _counted(state.transitions.get(state.last, {}), known)
            changed["transitions"] = {**state.transitions, state.last: followers}
    return state.model_copy(update=changed)


def forecasts(state: ExpertsState, target: TargetSettings, current: Value | None) -> dict[str, Value]:
    """Each expert's forecast, by name; experts that have seen too little are absent.

    Parameters
    ----------
    current
        The target's own value in the observation, where it has one. It may be newer than anything in `state`.
    """
    last = None if current is None else _fitting(current, target)
    if last is None and state.last is not None:
        last = _fitting(state.last, target)
    if target.kind == "number":
        return _numbers(state, target, last if isinstance(last, float) else None)
    if last is None:
        return {}
    found: dict[str, Value] = {PERSISTENCE: last}
    if target.kind == "category":
        if frequent := _by_count(state.counts, target):
            found[MOST_FREQUENT] = frequent[0]
        if following := _by_count(state.transitions.get(str(last), {}), target):
            found[MARKOV] = following[0]
    return found


def ranked(state: ExpertsState, target: TargetSettings, current: Value | None) -> tuple[str, ...]:
    """All labels, best first: what followed the present label, then what came most often, then the settings' order.

    Examples
    --------
    >>> weather = TargetSettings(kind="category", labels=("rain", "fog", "sun"))
    >>> ranked(ExpertsState(counts={"sun": 3, "rain": 2}, transitions={"rain": {"rain": 2}}), weather, "rain")
    ('rain', 'sun', 'fog')
    """
    last = state.last if current is None else current
    following = _by_count(state.transitions.get(str(last), {}), target)
    return tuple(dict.fromkeys((*following, *_by_count(state.counts, target), *target.labels)))


def settled(number: float, target: TargetSettings) -> float:
    """A forecast as it is written: within the target's range, rounded, never a negative zero."""
    low, high = target.range or (-math.inf, math.inf)
    return min(max(round(number, target.decimals + EXTRA_DECIMALS), low), high) + 0.0


def _numbers(state: ExpertsState, target: TargetSettings, last: float | None) -> dict[str, Value]:
    found: dict[str, float] = {}
    if last is not None:
        found[PERSISTENCE] = last
        if state.n > 1 and state.first is not None and isinstance(state.last, float):
            found[DRIFT] = last + (state.last / (state.n - 1) - state.first / (state.n - 1))
    if state.first is not None:
        found[MEAN] = state.mean
    recent = [value for value in state.recent if isinstance(value, float)]
    if recent:
        window = recent[-WINDOW:]
        found[MOVING_MEAN] = sum(value / len(window) for value in window)
    if 0 < target.season <= len(recent):
        found[SEASONAL] = recent[-target.season]
    return {name: settled(number, target) for name, number in found.items() if math.isfinite(number)}


def _fitting(value: Value, target: TargetSettings) -> Value | None:
    """The value if it is one of this target's kind: settings may have changed since a state was written."""
    if target.kind == "number":
        return float(value) if not isinstance(value, str) and math.isfinite(value) else None
    return value if isinstance(value, str) and (target.kind == "text" or value in target.labels) else None


def _counted(counts: Mapping[str, int], label: str) -> dict[str, int]:
    return {**counts, label: counts.get(label, 0) + 1}


def _by_count(counts: Mapping[str, int], target: TargetSettings) -> list[str]:
    """The labels that were seen, most often first; ties stand in the settings' order."""
    return sorted((label for label in target.labels if counts.get(label)), key=lambda label: -counts[label])
