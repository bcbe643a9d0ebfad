"""The naive forecasters that run beside the model: what each says, and the little that they remember.

They are what a model has to beat, what is published when the model cannot answer, and arms of the published mixture. All together
remember one `ExpertsState`, updated in constant time: counts, a running mean, and a window of latest values.

Values enter in the order of their own times (`ExpertsState.last_time`); one that is older than the newest is not taken in, so a truth
that arrives late changes scores and ledger but not what "the last value" is. The caller takes in only values whose time is not after
the observation at hand, so that no expert knows the future.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from schemas.messages import Kind, Scalar, Value
from schemas.settings import TargetSettings
from schemas.state import ExpertsState

#: Names by kind of target, the most trustworthy first: the order in which one stands in when the model has no answer.
EXPERTS: dict[Kind, tuple[str, ...]] = {
    "number": ("reference", "last", "moving-mean", "seasonal", "mean", "drift", "zero"),
    "category": ("last", "markov", "most-frequent"),
    "text": ("last",),
}
#: Experts that stay near the series' present level. Their hull, widened, is where any arm's forecast is believed (`agents.mixture`).
NEAR = ("reference", "last", "moving-mean", "seasonal")

#: Values of the moving mean: a week of days.
MOVING = 7
#: Values over which the usual spacing is averaged, and how much longer than usual one gap may count: an outage is not a spacing.
SPACING_SPAN = 20
SPACING_CEILING = 2.0
#: Successors kept per label, and labels followed, by the Markov expert. With more labels the rarest successor makes room.
SUCCESSORS = 16
FOLLOWED = 64


def reference(experts: ExpertsState, values: Mapping[str, Scalar], target: TargetSettings) -> float | None:
    """The forecast that a model's adjustment is added to: the field that the settings name, else the target's own last value."""
    if target.kind != "number":
        return None
    if target.reference is not None:
        return _number(values.get(target.reference))
    own = _number(values.get(target.field))
    return own if own is not None else _number(experts.last)


def forecasts(experts: ExpertsState, values: Mapping[str, Scalar], target: TargetSettings) -> dict[str, Value]:
    """What each expert that has something to say forecasts for one observation, by name.

    Parameters
    ----------
    values
        The observation's; where they hold the target's own field, that is the last value.

    Examples
    --------
    >>> forecasts(ExpertsState(n=2, first=1.0, last=3.0, mean=2.0, recent=(1.0, 3.0)), {}, TargetSettings())
    {'last': 3.0, 'moving-mean': 2.0, 'mean': 2.0, 'drift': 5.0, 'zero': 0.0}
    """
    if target.kind == "number":
        return _numbers(experts, values, target)
    own = values.get(target.field)
    last = own if isinstance(own, str) else experts.last
    found: dict[str, Value] = {}
    if isinstance(last, str):
        found["last"] = last
    if target.kind == "category":
        known = sorted(experts.counts, key=lambda label: (-experts.counts[label], _rank(label, target)))
        after = experts.transitions.get(str(last), {})
        if after:
            found["markov"] = min(after, key=lambda label: (-after[label], _rank(label, target)))
        if known:
            found["most-frequent"] = known[0]
    return found


def ranked_labels(experts: ExpertsState, values: Mapping[str, Scalar], target: TargetSettings) -> list[str]:
    """All labels, the likeliest first: by what followed the last one, then by frequency, then in the settings' order."""
    own = values.get(target.field)
    after = experts.transitions.get(str(own if isinstance(own, str) else experts.last), {})
    counts = experts.counts
    return sorted(target.labels, key=lambda label: (-after.get(label, 0), -counts.get(label, 0), _rank(label, target)))


def update(experts: ExpertsState, value: Value, time: datetime, target: TargetSettings) -> ExpertsState:
    """Take in a value that became true at `time`; one that is not newer than the last is left out."""
    if experts.last_time is not None and time <= experts.last_time:
        return experts
    n = experts.n + 1
    after: dict[str, object] = {"n": n, "last": value, "last_time": time, "spacing": _spacing(experts, time)}
    if target.kind == "number" and not isinstance(value, str):
        after["first"] = experts.first if experts.n else value
        after["mean"] = round(experts.mean + (value - experts.mean) / n, 9)
        after["recent"] = (*experts.recent[-max(MOVING, target.season) + 1 :], value)
    elif target.kind == "category":
        label = str(value)
        after["counts"] = {**experts.counts, label: experts.counts.get(label, 0) + 1}
        if isinstance(experts.last, str):
            after["transitions"] = _follow(experts.transitions, experts.last, label)
    return experts.model_copy(update=after)


def correct(experts: ExpertsState, old: Value, new: Value, time: datetime, target: TargetSettings) -> ExpertsState:
    """Put a corrected value right where it is still the last one; older ones have been averaged in and stay."""
    if experts.last_time != time or experts.last != old:
        return experts
    after: dict[str, object] = {"last": new}
    if not isinstance(old, str) and not isinstance(new, str):
        after["mean"] = round(experts.mean + (new - old) / experts.n, 9)
        after["recent"] = (*experts.recent[:-1], new)
        if experts.n == 1:
            after["first"] = new
    elif target.kind == "category":
        counts = {**experts.counts, str(old): experts.counts.get(str(old), 1) - 1}
        counts[str(new)] = counts.get(str(new), 0) + 1
        after["counts"] = {label: count for label, count in counts.items() if count > 0}
    return experts.model_copy(update=after)


def steps_ahead(experts: ExpertsState, target: TargetSettings) -> int:
    """How many of the series' usual steps lie in the horizon; 1 for the next observation and while the spacing is unknown."""
    if not isinstance(target.horizon, timedelta) or experts.spacing <= 0:
        return 1
    return max(1, round(target.horizon.total_seconds() / experts.spacing))


def _numbers(experts: ExpertsState, values: Mapping[str, Scalar], target: TargetSettings) -> dict[str, Value]:
    found: dict[str, float] = {}
    if target.reference is not None and (given := _number(values.get(target.reference))) is not None:
        found["reference"] = given
    own = _number(values.get(target.field))
    last = own if own is not None else _number(experts.last)
    if last is not None:
        found["last"] = last
    recent = [value for value in experts.recent if not isinstance(value, str)]
    if len(recent) > 1:
        latest = recent[-MOVING:]
        found["moving-mean"] = sum(latest) / len(latest)
    steps = steps_ahead(experts, target)
    if target.season and len(recent) >= target.season:
        found["seasonal"] = recent[(steps - 1) % target.season - target.season]
    if experts.n > 1:
        found["mean"] = experts.mean
        if last is not None and experts.first is not None:
            found["drift"] = last + steps * (last - experts.first) / (experts.n - 1)
    found["zero"] = 0.0
    low, high = target.range if target.range is not None else (float("-inf"), float("inf"))
    digits = target.decimals + 2
    return {name: round(min(max(value, low), high), digits) + 0.0 for name, value in found.items()}


def _number(value: object) -> float | None:
    return None if isinstance(value, bool) or not isinstance(value, int | float) else float(value)


def _rank(label: str, target: TargetSettings) -> int:
    return target.labels.index(label) if label in target.labels else len(target.labels)


def _spacing(experts: ExpertsState, time: datetime) -> float:
    if experts.last_time is None:
        return 0.0
    gap = (time - experts.last_time).total_seconds()
    if experts.spacing <= 0:
        return round(gap, 3)
    usual = min(gap, SPACING_CEILING * experts.spacing)
    return round(experts.spacing + (usual - experts.spacing) / min(experts.n, SPACING_SPAN), 3)


def _follow(transitions: Mapping[str, Mapping[str, int]], last: str, label: str) -> dict[str, dict[str, int]]:
    after = {key: dict(row) if key == last else row for key, row in transitions.items()}
    row = dict(after.get(last, {}))
    row[label] = row.get(label, 0) + 1
    if len(row) > SUCCESSORS:
        # The newest stays: dropped it could never grow.
        del row[min((other for other in row if other != label), key=lambda other: (row[other], other))]
    after[last] = row
    if len(after) > FOLLOWED:
        del after[min((other for other in after if other != last), key=lambda other: (sum(after[other].values()), other))]
    return after  # type: ignore[return-value]
