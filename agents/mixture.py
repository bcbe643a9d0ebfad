"""The published forecast: an online mixture of the model, the memory's rules and the naive experts, hardly worse than the best of them.

Regret matching+ (Tammelin 2014), under delay and without tuning known as DORM+ (Flaspohler et al. 2021): an arm's weight is the regret
of not having followed it, floored at nought, measured when an outcome arrives against the forecasts stored with the prediction. Arms
that gave no forecast sleep: they neither weigh nor learn. While no arm that is awake has regret, the first fallback goes out as it is.
Numbers have one arm more, `COMBINED`: a weighted mean by ML-Poly on linearised losses (Gaillard et al. 2014), which competes with the best
fixed *combination* (the last value and the mean together are a damped last value, better than either) but alone could be led astray.

What it promises, with K arms and at most d outcomes that arrive between a prediction and its own:

- Numbers. Errors count in units of the usual naive error at the time (`MixtureState.scale`), one outcome at most `CAP` of them. Over any
  stretch of outcomes that ends with the T-th, the published forecast loses at most CAP * sqrt((1 + 2d) * (K + 1) * T) such units against
  any arm awake in it. Proof: with R the regrets and r an outcome's, |R|^2 grows by at most |r|^2 + 2 R.r; weights read d outcomes ago
  make R.r <= d * max|r|^2 by convexity; R bounds the sum of r over a stretch because of the floor. It holds as far as cap, reach and
  combination are at the outcome what they were at the prediction; what they moved in between comes on top.
- Labels. Without delay the weighted vote errs at most 2 * (errors of the best arm + sqrt(K * T)) times (a wrong vote costs at least half
  the weight); delay adds what the weights moved in the meantime. In practice it stays beside the best arm.

A hostile arm cannot break it: arms that are not naive are held within `REACH` units of the naive ones, which depend on truths alone,
so a number as high as floats go is a poor forecast and no more. The units follow the median naive error by bounded steps.

Texts cannot be mixed: the model's goes out where there is one. Scoring and intervals are left to their modules.

References: Tammelin (2014), arXiv 1407.5042; Gaillard, Stoltz, van Erven (2014), A Second-order Bound with Excess Losses, COLT, arXiv
1402.2044 (ML-Poly, sleeping arms); Joulani, György, Szepesvári (2013), Online Learning under Delayed Feedback, ICML; Flaspohler et al.
(2021), Online Learning with Optimism and Delay, ICML, arXiv 2106.06885.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from agents import experts
from schemas.messages import Answer, Value
from schemas.settings import TargetSettings
from schemas.state import MixtureState

MODEL = "model"
#: The arm of numbers that is itself a mixture, and the prefix of its parts' entries in the state.
COMBINED = "combined"
_PART = "part/"

#: How far outside the naive forecasts another arm may pull, in usual errors: rarely felt by an honest one, and what a hostile one that had
#: earned all weight costs per prediction until its bad outcomes arrive.
REACH = 3.0
#: What one outcome may count, in usual errors; an outlier among truths is no reason to change arms for good.
CAP = 4.0
#: The unit moves by at most about this share per outcome: -9999 as a first error instead of 2 is forgotten within some 70 outcomes.
SCALE_RATE = 1 / 8
#: Errors above are as bad as it gets; keeps sums and differences finite.
WORST = 1e300
#: Decimals of stored regrets; keeps bytes short and stable.
PRECISION = 6


def publish(state: MixtureState, forecasts: Mapping[str, Value], target: TargetSettings, fallback_order: Sequence[str]) -> Answer | None:
    """Mix forecasts into the one that goes out; None without any.

    Parameters
    ----------
    forecasts
        Each arm's forecast, by name: `model`, `rules`, and those of `agents.experts.names`.
    fallback_order
        Arms to follow before anything has been learned, best first.

    Returns
    -------
    Answer
        For labels, `top` holds those that were voted for, best first, then what arms without weight say; at most `target.top_k`.

    Examples
    --------
    >>> arms = {"persistence": 10.0, "mean": 20.0}
    >>> publish(MixtureState(), arms, TargetSettings(), ("persistence",)).value
    10.0
    >>> publish(MixtureState(regret={"persistence": 1.0, "mean": 3.0}), arms, TargetSettings(), ("persistence",)).value
    17.5
    """
    if not forecasts:
        return None
    order = [name for name in fallback_order if name in forecasts] + sorted(name for name in forecasts if name not in fallback_order)
    if target.kind == "text":
        return Answer(value=forecasts[MODEL if MODEL in forecasts else order[0]])
    if target.kind == "category":
        weights = _weights(state, forecasts) or {order[0]: 1.0}
        votes = dict.fromkeys((str(forecasts[name]) for name in order), 0.0)
        for name, weight in weights.items():
            votes[str(forecasts[name])] += weight
        top = tuple(sorted(votes, key=lambda label: -round(votes[label], PRECISION)))[: target.top_k]
        return Answer(value=top[0], top=top)
    within = _within_reach(state, forecasts, target)
    if not within:
        return None
    first = within[next(name for name in order if name in within)]
    combined = _combined(state, within)
    arms = {**within, COMBINED: first if combined is None else combined}
    mixed = _mean(_weights(state, arms), arms)
    return Answer(value=experts.settled(first if mixed is None else mixed, target))


def learn(state: MixtureState, forecasts: Mapping[str, Value], published: Answer, truth: Value, target: TargetSettings) -> MixtureState:
    """Take in one outcome, with what was stored when its prediction was made. Call it in the order in which outcomes arrive."""
    if target.kind == "text":
        return state
    if target.kind == "category":
        return _regretting(state, _label_regrets(state, forecasts, published, truth))
    if isinstance(truth, str) or isinstance(published.value, str):
        return state
    state = state.model_copy(update={"scale": _scale(state, forecasts, truth, target)})
    if not state.scale:
        return state
    within = _within_reach(state, forecasts, target)
    combined = _combined(state, within)
    middle = published.value if combined is None else combined
    loss = _error(published.value, truth)
    regrets = {name: (loss - _error(value, truth)) / state.scale for name, value in {**within, COMBINED: middle}.items()}
    # Linearised at the combination: how much less a step towards the arm would have missed by.
    slope = (middle > truth) - (middle < truth)
    gains = {name: slope * min(max(middle - value, -WORST), WORST) / state.scale for name, value in within.items()}
    return _regretting(_trusting(state, gains), regrets)


def _weights(state: MixtureState, arms: Iterable[str]) -> dict[str, float]:
    """Shares of the arms that are awake and have regret, summing to 1; empty if none has."""
    return _shares({name: state.regret.get(name, 0.0) for name in arms})


def _combined(state: MixtureState, within: Mapping[str, float]) -> float | None:
    """The combination of these forecasts, by ML-Poly's weights; None before it has any."""
    earned = {name: state.regret.get(_PART + name, 0.0) / (1.0 + state.square.get(_PART + name, 0.0)) for name in within}
    return _mean(_shares(earned), within)


def _shares(earned: Mapping[str, float]) -> dict[str, float]:
    positive = {name: earned[name] for name in sorted(earned) if earned[name] > 0}
    total = sum(positive.values())
    return {name: amount / total for name, amount in positive.items()}


def _mean(weights: Mapping[str, float], values: Mapping[str, float]) -> float | None:
    if not weights:
        return None
    # Rounding must not carry the sum out of the hull, nor out of what a float can hold.
    low, high = min(values[name] for name in weights), max(values[name] for name in weights)
    return min(max(sum(weight * values[name] for name, weight in weights.items()), low), high)


def _regretting(state: MixtureState, regrets: Mapping[str, float]) -> MixtureState:
    """Add an outcome's regrets, floored at nought."""
    return state.model_copy(
        update={"regret": _added(state.regret, {name: max(_capped(r), -state.regret.get(name, 0.0)) for name, r in regrets.items()})}
    )


def _trusting(state: MixtureState, gains: Mapping[str, float]) -> MixtureState:
    """Add an outcome's regrets of the combination's parts, without floor, and their squares."""
    capped = {_PART + name: _capped(gain) for name, gain in gains.items()}
    return state.model_copy(
        update={"regret": _added(state.regret, capped), "square": _added(state.square, {name: gain**2 for name, gain in capped.items()})}
    )


def _added(sums: Mapping[str, float], amounts: Mapping[str, float]) -> dict[str, float]:
    """Sums in a fixed order, without those that are nought, so that equal states have equal bytes."""
    added = {**sums, **{name: round(sums.get(name, 0.0) + amount, PRECISION) for name, amount in amounts.items()}}
    return {name: added[name] for name in sorted(added) if added[name]}


def _capped(regret: float) -> float:
    return min(max(regret, -CAP), CAP)


def _label_regrets(state: MixtureState, forecasts: Mapping[str, Value], published: Answer, truth: Value) -> dict[str, float]:
    """Regrets against the weights' expected error: the vote's own error is not convex in them, and regret for it would not be bounded."""
    missed = {name: float(value != truth) for name, value in forecasts.items()}
    weights = _weights(state, forecasts)
    expected = sum(weight * missed[name] for name, weight in weights.items()) if weights else float(published.value != truth)
    return {name: expected - miss for name, miss in missed.items()}


def _within_reach(state: MixtureState, forecasts: Mapping[str, Value], target: TargetSettings) -> dict[str, float]:
    numbers = {name: value for name, value in forecasts.items() if not isinstance(value, str)}
    naive = [numbers[name] for name in experts.names(target) if name in numbers]
    if not naive:
        return numbers
    low, high = min(naive) - REACH * state.scale, max(naive) + REACH * state.scale
    return {name: min(max(value, low), high) for name, value in numbers.items()}


def _scale(state: MixtureState, forecasts: Mapping[str, Value], truth: float, target: TargetSettings) -> float:
    """The usual naive error: the lower median over arms (a mean remembers an outlier), followed over outcomes by bounded steps.

    Steps are in the logarithm; a hit says nothing of an error's size and changes nothing.
    """
    naive = experts.names(target)
    missed = [_error(value, truth) for name, value in forecasts.items() if name in naive and not isinstance(value, str)]
    usual = statistics.median_low(missed) if missed else 0.0
    if not usual:
        return state.scale
    if not state.scale:
        return float(f"{usual:.6g}")
    step = min(max(math.log(usual) - math.log(state.scale), -1.0), 1.0)
    return float(f"{state.scale * math.exp(SCALE_RATE * step):.6g}")


def _error(forecast: float, truth: float) -> float:
    return min(abs(forecast - truth), WORST)
