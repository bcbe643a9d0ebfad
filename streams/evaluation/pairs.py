"""Whether one arm is better than another on the same cases: paired tests, intervals, and a sentence that says what they come to.

Categories and texts: exact McNemar test on the cases where one arm is right and the other wrong; Newcombe's interval (method 10: Wilson's,
squared and added, with the correction for pairs) for the difference in accuracy. Numbers: Diebold-Mariano test on absolute errors with
Newey-West variance (Bartlett weights), the small-sample correction of Harvey, Leybourne and Newbold and Student's t, the interval of the
difference in MAE from the same; an exact sign test beside it.

What the p-values do not cover: each is of one comparison, nothing is corrected for how many are made; and cases next to each other in a
stream are not independent. Diebold-Mariano allows for that as far as its lag reaches; McNemar, sign test and Newcombe's interval do not.
Several streams (seeds) are taken as independent of each other, the cases of several entities of one stream as one sequence.

References: McNemar (1947), Psychometrika 12:153-157; Newcombe (1998), Statistics in Medicine 17:2635-2650; Diebold, Mariano (1995), Journal
of Business and Economic Statistics 13:253-263; Newey, West (1987), Econometrica 55:703-708; Harvey, Leybourne, Newbold (1997),
International Journal of Forecasting 13:281-291.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from agents.scoring import WORST
from schemas.messages import Frozen
from schemas.settings import TargetSettings
from streams import exits
from streams.errors import StreamError
from streams.evaluation.losses import ResultsUnfit, in_order, loss, mean, number
from streams.evaluation.results import CaseResult
from streams.evaluation.scores import wilson

#: p below which arms differ; 1 minus it is the level of the intervals.
ALPHA = 0.05
#: How much worse still counts as not worse: points of accuracy, or a share of the other arm's MAE.
MARGIN = 0.05
#: Errors whose difference is below this share of the numbers they come from are equal: it is all rounding.
EQUAL = 1e-12

Pair = tuple[Sequence[CaseResult], Sequence[CaseResult]]


class StatisticsMissing(StreamError):
    """The tests need a package that is not installed."""

    exit_code = exits.FAILED


class Comparison(Frozen):
    """One arm against another on the same cases. `difference`, `low` and `high` are positive where the arm is better."""

    metric: Literal["accuracy", "mae"]
    n: Annotated[int, Field(ge=1)]
    #: How many streams the cases come from.
    streams: Annotated[int, Field(ge=1)]
    #: Accuracy (0 to 1), or MAE in the target's unit, of the arm and of the other.
    score: float
    against_score: float
    #: Cases that the arm did better, worse, and no better or worse.
    wins: Annotated[int, Field(ge=0)]
    losses: Annotated[int, Field(ge=0)]
    ties: Annotated[int, Field(ge=0)]
    #: In accuracy, or in MAE.
    difference: float
    #: The difference's 95 % interval; None where there are too few cases for one.
    low: float | None
    high: float | None
    #: Two-sided. McNemar's or Diebold-Mariano's; the sign test's where there is no variance to test against.
    p_value: Annotated[float, Field(ge=0, le=1)]
    sign_p_value: Annotated[float, Field(ge=0, le=1)]
    better: bool
    worse: bool
    #: The whole interval lies above minus `margin`.
    non_inferior: bool
    margin: Annotated[float, Field(ge=0)]
    #: All of this in words.
    verdict: str


def compare(arm: Sequence[CaseResult], against: Sequence[CaseResult], target: TargetSettings, *, lag: int | None = None) -> Comparison:
    """Compare two arms that ran on the same stream.

    Parameters
    ----------
    lag
        Numbers: up to how many cases back errors may hang together; default: the cube root of the number of cases, rounded down.

    Raises
    ------
    ResultsUnfit
        The arms have different cases, or none, or values that are not of the target's kind.
    StatisticsMissing
        SciPy is not installed.
    ValueError
        `lag` is negative.
    """
    return pool([(arm, against)], target, lag=lag)


def pool(pairs: Sequence[Pair], target: TargetSettings, *, lag: int | None = None) -> Comparison:
    """Compare two arms over several streams at once: each pair holds the arm's results and the other's on one stream.

    All cases weigh the same. Autocovariances are taken within each stream, about the mean of all, and never reach from one into the next.
    Parameters and errors are those of `compare`.
    """
    if lag is not None and lag < 0:
        raise ValueError(f"errors cannot hang together over {lag} cases")
    streams = [_matched(arm, against) for arm, against in pairs]
    if not any(streams):
        raise ResultsUnfit("there are no cases to compare the arms on")
    streams = [stream for stream in streams if stream]
    if target.kind == "number":
        return _numbers(streams, target, lag)
    return _shares(streams, target)


class _Tested(NamedTuple):
    """A difference with its interval and the p-value that belongs to it."""

    low: float | None
    high: float | None
    p_value: float


_Stream = list[tuple[CaseResult, CaseResult]]


def _matched(arm: Sequence[CaseResult], against: Sequence[CaseResult]) -> _Stream:
    """The two arms' rows of each case, in the stream's order."""
    ours, theirs = (Counter((row.entity, row.id) for row in rows) for rows in (arm, against))
    for keys in (ours, theirs):
        if twice := [key for key, count in keys.items() if count > 1]:
            raise ResultsUnfit(f"{_case(twice[0])} stands {keys[twice[0]]} times in the results of one arm, so it cannot be paired")
    if ours != theirs:
        only = [
            f"{len(left)} only in {name} ({_case(min(left))})"
            for name, left in (("one", ours - theirs), ("the other", theirs - ours))
            if left
        ]
        raise ResultsUnfit(f"the arms did not run over the same cases: {', '.join(only)}, {len(ours & theirs)} in both")
    by_case = {(row.entity, row.id): row for row in against}
    matched = [(row, by_case[row.entity, row.id]) for row in in_order(arm)]
    for row, other in matched:
        if row.truth != other.truth:
            raise ResultsUnfit(f"{_case((row.entity, row.id))} came true as {row.truth!r} in one arm and as {other.truth!r} in the other")
    return matched


def _case(key: tuple[str, str]) -> str:
    return f"case {key[1]!r} of {key[0]!r}"


def _shares(streams: Sequence[_Stream], target: TargetSettings) -> Comparison:
    both = [(loss(row, target) == 0.0, loss(other, target) == 0.0) for stream in streams for row, other in stream]
    table = Counter(both)
    n, wins, losses = len(both), table[True, False], table[False, True]
    p_value = _sign_test(wins, losses)
    return _concluded(
        metric="accuracy",
        streams=len(streams),
        score=(table[True, True] + wins) / n,
        against_score=(table[True, True] + losses) / n,
        counts=(wins, losses, n - wins - losses),
        difference=(wins - losses) / n,
        tested=_Tested(*_newcombe(table[True, True], wins, losses, table[False, False]), p_value),
        sign_p_value=p_value,
        margin=MARGIN,
    )


def _newcombe(both: int, first: int, second: int, neither: int) -> tuple[float, float]:
    """Interval of the difference of two shares on the same cases: those that both, only the first, only the second, and neither has."""
    n = both + first + second + neither
    one, two, difference = (both + first) / n, (both + second) / n, (first - second) / n
    (low_one, high_one), (low_two, high_two) = wilson(both + first, n, 1.0 - ALPHA), wilson(both + second, n, 1.0 - ALPHA)
    margins = (both + first) * (second + neither) * (both + second) * (first + neither)
    together = float(both * neither - first * second)
    if together > 0:
        # The continuity correction.
        together = max(together - n / 2, 0.0)
    phi = together / math.sqrt(margins) if margins else 0.0
    below, above = one - low_one, high_two - two
    low = difference - math.sqrt(max(below**2 - 2 * phi * below * above + above**2, 0.0))
    below, above = two - low_two, high_one - one
    high = difference + math.sqrt(max(below**2 - 2 * phi * below * above + above**2, 0.0))
    return max(low, -1.0), min(high, 1.0)


def _numbers(streams: Sequence[_Stream], target: TargetSettings, lag: int | None) -> Comparison:
    gains = [[_gain(row, other, target) for row, other in stream] for stream in streams]
    every = [gain for stream in gains for gain in stream]
    wins, losses = sum(gain > 0 for gain in every), sum(gain < 0 for gain in every)
    against_score = mean([loss(other, target) for stream in streams for _, other in stream])
    sign_p_value = _sign_test(wins, losses)
    return _concluded(
        metric="mae",
        streams=len(streams),
        score=mean([loss(row, target) for stream in streams for row, _ in stream]),
        against_score=against_score,
        counts=(wins, losses, len(every) - wins - losses),
        difference=mean(every),
        tested=_diebold_mariano(gains, lag, otherwise=sign_p_value),
        sign_p_value=sign_p_value,
        margin=MARGIN * against_score,
    )


def _gain(row: CaseResult, other: CaseResult, target: TargetSettings) -> float:
    """By how much the arm's absolute error is smaller; 0 where only rounding tells them apart."""
    gain = loss(other, target) - loss(row, target)
    scale = max(abs(number(row, value)) for value in (row.truth, row.answer.value, other.answer.value))
    return 0.0 if abs(gain) <= EQUAL * min(scale, WORST) else gain


def _diebold_mariano(gains: Sequence[Sequence[float]], lag: int | None, *, otherwise: float) -> _Tested:
    """Interval and p-value of the mean gain; `otherwise` is the p-value where there is no variance, or where there are too few cases."""
    every = [gain for stream in gains for gain in stream]
    # Scaled, for squares of the largest numbers are none.
    n, scale = len(every), max(abs(gain) for gain in every)
    if scale == 0.0:
        return _Tested(0.0, 0.0, 1.0) if n > 2 else _Tested(None, None, 1.0)
    middle = mean([gain / scale for gain in every])
    lags = [min(_cube_root(len(stream)) if lag is None else lag, len(stream) - 1) for stream in gains]
    about = [[gain / scale - middle for gain in stream] for stream in gains]
    variance = math.fsum(_long_run(stream, most) for stream, most in zip(about, lags, strict=True)) / n**2
    steps = max(lags) + 1
    small_sample = (n + 1 - 2 * steps + steps * (steps - 1) / n) / n
    if small_sample <= EQUAL:
        return _Tested(None, None, otherwise)
    if variance <= EQUAL**2:
        # The mean itself, not what scaling has rounded it to.
        return _Tested(mean(every), mean(every), otherwise)
    students, error = _stats().t(n - 1), math.sqrt(variance / small_sample)
    half = float(students.ppf(1.0 - ALPHA / 2.0)) * error
    return _Tested((middle - half) * scale, (middle + half) * scale, min(1.0, 2.0 * float(students.sf(abs(middle) / error))))


def _long_run(deviations: Sequence[float], lag: int) -> float:
    """The sum over one stream that estimates n times its long-run variance: Newey and West's, never negative but for rounding."""
    terms = [math.fsum(value * value for value in deviations)]
    for back in range(1, lag + 1):
        weight = 2.0 * (1.0 - back / (lag + 1))
        terms.append(weight * math.fsum(now * then for now, then in zip(deviations[back:], deviations, strict=False)))
    return math.fsum(terms)


def _cube_root(n: int) -> int:
    """Rounded down, and exact where floating point is not: 64 ** (1 / 3) is a little under 4."""
    root = round(n ** (1 / 3))
    return root if root**3 <= n else root - 1


def _sign_test(wins: int, losses: int) -> float:
    """Two-sided and exact; ties say nothing. On right and wrong it is McNemar's exact test."""
    return float(_stats().binomtest(wins, wins + losses, 0.5).pvalue) if wins + losses else 1.0


def _stats() -> Any:
    try:
        from scipy import stats
    except ImportError as error:
        raise StatisticsMissing(f"paired tests need SciPy: pip install 'palimpsest[evaluation]' ({error})") from error
    return stats


def _concluded(
    *,
    metric: Literal["accuracy", "mae"],
    streams: int,
    score: float,
    against_score: float,
    counts: tuple[int, int, int],
    difference: float,
    tested: _Tested,
    sign_p_value: float,
    margin: float,
) -> Comparison:
    low, high, p_value = tested
    better, worse = p_value < ALPHA and difference > 0.0, p_value < ALPHA and difference < 0.0
    # Never worse is not worse, whatever the margin: another arm without any error leaves none.
    non_inferior = low is not None and (low > -margin or low >= 0.0)
    n = sum(counts)
    within = f"{100 * margin:.0f} points of accuracy" if metric == "accuracy" else f"{100 * MARGIN:.0f} % of the other's MAE"
    if better:
        opening = "Better"
    elif worse:
        opening = f"Worse, but by less than {within}" if non_inferior else "Worse"
    elif non_inferior:
        opening = f"Non-inferior (not worse by {within})"
    else:
        opening = f"Not distinguishable at n = {n}"
    return Comparison(
        metric=metric,
        n=n,
        streams=streams,
        score=score,
        against_score=against_score,
        wins=counts[0],
        losses=counts[1],
        ties=counts[2],
        difference=difference,
        low=low,
        high=high,
        p_value=p_value,
        sign_p_value=sign_p_value,
        better=better,
        worse=worse,
        non_inferior=non_inferior,
        margin=margin,
        verdict=f"{opening}: {_figures(metric, score, against_score, tested, n)}.",
    )


def _figures(metric: Literal["accuracy", "mae"], score: float, against_score: float, tested: _Tested, n: int) -> str:
    shares = metric == "accuracy"
    scores = f"accuracy {score:.3f} against {against_score:.3f}" if shares else f"MAE {score:.4g} against {against_score:.4g}"
    if tested.low is None or tested.high is None:
        interval = "too few cases for an interval"
    elif shares:
        interval = f"95 % interval of the gain {100 * tested.low:+.1f} to {100 * tested.high:+.1f} points"
    else:
        interval = f"95 % interval of the gain {tested.low:+.4g} to {tested.high:+.4g}"
    p_value = "p < 0.001" if tested.p_value < 0.001 else f"p = {tested.p_value:.3f}"
    return f"{scores}, {interval}, {p_value}, n = {n}"
