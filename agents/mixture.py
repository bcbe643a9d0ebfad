"""The published forecast: an online mixture of the naive experts, the memory's rules and the model, never much worse than the best.

Algorithm
---------
ML-Poly (Gaillard, Stoltz and van Erven, "A Second-order Bound with Excess Losses", COLT 2014, arXiv 1402.2044): an arm's weight is the
positive part of its regret over one plus the sum of its squared instantaneous regrets. It has no parameter; its regret to every arm k
is at most of the order of `sqrt(K (1 + sum of r_k^2))` up to a logarithm, and an arm that has no answer (the model failed, no rule
matched) sleeps: its regret stands still (the paper's section on confidences).

Numbers use it twice. An inner layer on linearised losses makes `combined`, which competes with the best fixed *combination* of arms (the
last value and the moving mean together are a damped last value, better than either). An outer layer on absolute losses chooses between
the arms and `combined`; it carries the guarantee against each single arm, which linearised losses alone give up against an arm that
is huge with changing sign. Labels use one layer: a vote by weight, losses 0 or 1; the vote errs at most twice as often as the weights
do on average.

Delay: learning happens in order of arrival, on the forecasts that were stored with the prediction, with the weights of that moment
(Joulani, György and Szepesvári, "Online Learning under Delayed Feedback", ICML 2013): the guarantee holds for the sequence as it
arrives, and what is published lags it by the outcomes that are still under way.

Safety: before mixing, and in the losses alike, every forecast is drawn to the hull of the experts that stay near the series' level
(`experts.NEAR`), widened by `REACH` usual moves (`MixtureState.scale`: the running mean error of the first of them); losses are counted in
those units and cut at 1. So an arm that answers 1e300, always or once in a hundred times, moves the mixture by a bounded amount, and what it is
charged is what it did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from agents.experts import EXPERTS, NEAR
from agents.scoring import MODEL, RULES
from schemas.messages import Answer, Value
from schemas.state import MixtureState

#: Usual moves that an arm may lie outside the near experts' hull.
REACH = 4.0
#: Outcomes over which the usual move is averaged, and by how much one may exceed it: one absurd truth does not set the scale.
SPAN = 50
CEILING = 4.0

COMBINED = "combined"
#: Where no arm has earned a weight yet, the first of these that has an answer speaks: the last value until something beats it.
ORDER = ("reference", "last", COMBINED, MODEL, *(n for n in EXPERTS["number"] if n not in NEAR[:2]), "markov", "most-frequent", RULES)
#: Prefix of the inner layer's arms in `MixtureState`.
_INNER = "inner/"
_DIGITS = 9


def weights(state: MixtureState, arms: Iterable[str], *, prefix: str = "") -> dict[str, float]:
    """The weights of the arms that have an answer; they sum to 1. Arms without weight are left out.

    Examples
    --------
    >>> weights(MixtureState(), ["zero", "last"])
    {'last': 1.0}
    """
    awake = list(arms)
    earned = {}
    for arm in awake:
        regret = state.regret.get(prefix + arm, 0.0)
        if regret > 0:
            earned[arm] = regret / (1.0 + state.square.get(prefix + arm, 0.0))
    if not earned:
        best = max(awake, key=lambda arm: (state.regret.get(prefix + arm, 0.0), -_place(arm)))
        return {best: 1.0}
    total = sum(earned.values())
    return {arm: weight / total for arm, weight in earned.items()}


def combine(state: MixtureState, forecasts: Mapping[str, float]) -> float:
    """The mixture of numbers.

    Parameters
    ----------
    forecasts
        By arm; at least one. Not clipped by the caller.

    Examples
    --------
    >>> combine(MixtureState(), {"last": 3.0, "zero": 0.0})
    3.0
    """
    return _layers(state, forecasts).mixed


def update(state: MixtureState, forecasts: Mapping[str, float], truth: float) -> MixtureState:
    """Learn from a number's first truth; `forecasts` are those stored with the prediction, by arm."""
    if not forecasts:
        return state
    layers = _layers(state, forecasts)
    n = state.n + 1
    first = next((forecasts[arm] for arm in NEAR if arm in forecasts), layers.mixed)
    move = abs(first - truth)
    scale = state.scale + (min(move, CEILING * state.scale) - state.scale) / min(n, SPAN) if state.scale > 0 else move
    unit = REACH * scale or 1.0
    slope = (layers.combined > truth) - (layers.combined < truth)
    loss = abs(layers.mixed - truth)
    regrets = {_INNER + arm: slope * (layers.combined - value) / unit for arm, value in layers.clipped.items()}
    regrets |= {arm: (loss - abs(value - truth)) / unit for arm, value in layers.clipped.items()}
    regrets[COMBINED] = (loss - abs(layers.combined - truth)) / unit
    return _learn(state, regrets, n=n, scale=round(scale, _DIGITS))


def vote(state: MixtureState, answers: Mapping[str, Answer], prior: Sequence[str], top_k: int) -> Answer:
    """The mixture of labels: the label with most weight, and the ranking behind it.

    Parameters
    ----------
    answers
        By arm; an arm's ranked labels count for the ranking after the first.
    prior
        All labels, the likeliest first; decides ties and fills the ranking.

    Examples
    --------
    >>> vote(MixtureState(), {"last": Answer(value="rain")}, ["sun", "rain", "fog"], 2)
    Answer(value='rain', top=('rain', 'sun'))
    """
    if not answers:
        return Answer.model_construct(value=prior[0], top=tuple(prior[:top_k]))
    votes: dict[str, float] = {}
    ranking: dict[str, float] = {}
    for arm, weight in weights(state, answers).items():
        answer = answers[arm]
        votes[str(answer.value)] = votes.get(str(answer.value), 0.0) + weight
        for place, label in enumerate(answer.top):
            ranking[label] = ranking.get(label, 0.0) + weight / (place + 1)
    # An arm without weight still knows more about the second place than frequencies do.
    named = {str(answer.value) for answer in answers.values()}
    places = {label: place for place, label in enumerate(prior)}
    last = len(places)
    ordered = sorted(
        {*places, *named},
        key=lambda label: (-round(votes.get(label, 0.0), 9), -round(ranking.get(label, 0.0), 9), label not in named, places.get(label, last)),
    )
    return Answer.model_construct(value=ordered[0], top=tuple(ordered[:top_k]))


def update_vote(state: MixtureState, answers: Mapping[str, Value], truth: str) -> MixtureState:
    """Learn from a label's first truth; `answers` are those stored with the prediction, by arm."""
    if not answers:
        return state
    losses = {arm: 0.0 if value == truth else 1.0 for arm, value in answers.items()}
    own = sum(weight * losses[arm] for arm, weight in weights(state, answers).items())
    return _learn(state, {arm: own - loss for arm, loss in losses.items()}, n=state.n + 1, scale=state.scale)


class _Layers:
    """Both layers' answers on one set of forecasts."""

    __slots__ = ("clipped", "combined", "mixed")

    def __init__(self, clipped: Mapping[str, float], combined: float, mixed: float) -> None:
        self.clipped = clipped
        self.combined = combined
        self.mixed = mixed


def _layers(state: MixtureState, forecasts: Mapping[str, float]) -> _Layers:
    clip = _corridor(state, forecasts)
    clipped = {arm: clip(value) for arm, value in forecasts.items()}
    inner = weights(state, clipped, prefix=_INNER)
    combined = sum(weight * clipped[arm] for arm, weight in inner.items())
    candidates = {**clipped, COMBINED: combined}
    mixed = sum(weight * candidates[arm] for arm, weight in weights(state, candidates).items())
    return _Layers(clipped, combined, mixed)


def _corridor(state: MixtureState, forecasts: Mapping[str, float]) -> Callable[[float], float]:
    near = [forecasts[arm] for arm in NEAR if arm in forecasts]
    if not near:
        return lambda value: value
    low, high = min(near) - REACH * state.scale, max(near) + REACH * state.scale
    return lambda value: min(max(value, low), high)


def _learn(state: MixtureState, regrets: Mapping[str, float], *, n: int, scale: float) -> MixtureState:
    regret, square = dict(state.regret), dict(state.square)
    for arm, found in regrets.items():
        bounded = min(max(found, -1.0), 1.0)
        regret[arm] = round(regret.get(arm, 0.0) + bounded, _DIGITS)
        square[arm] = round(square.get(arm, 0.0) + bounded * bounded, _DIGITS)
    return MixtureState.model_construct(regret=regret, square=square, scale=scale, n=n)


def _place(arm: str) -> int:
    return ORDER.index(arm) if arm in ORDER else len(ORDER)
