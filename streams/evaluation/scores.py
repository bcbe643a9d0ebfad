"""Scores of one arm over its cases: how right it was, how sure, what it cost, and what its memory came to.

Progressive validation: every answer was given before its truth was known, so all figures are means over stored answers, in the order of
the cases, and no case is left out (a failed call counts with its fallback's answer). Nothing is rounded. A figure that cannot be had
is absent; none is ever NaN or infinite. Whether two arms differ is `streams.evaluation.pairs`'s to say.

References: Gama, Sebastião, Rodrigues (2013), Machine Learning 90:317-346 (fading); Hyndman, Koehler (2006), International Journal of
Forecasting 22:679-688 (MASE); Wilson (1927), JASA 22:209-212; Gneiting, Raftery (2007), JASA 102:359-378 (pinball, Brier, log loss).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from statistics import NormalDist, median
from typing import Any, Literal

from agents.experts import PERSISTENCE
from agents.intervals import covers
from agents.scoring import WORST
from schemas.settings import JudgeSettings, TargetSettings
from streams.evaluation.derived import executed_results, guarded_results, naive_results
from streams.evaluation.losses import ResultsUnfit, blocks, in_order, learning_curve, loss, mean, number
from streams.evaluation.results import CaseResult, Spent

__all__ = [
    "ResultsUnfit",
    "blocks",
    "executed_results",
    "guarded_results",
    "learning_curve",
    "naive_results",
    "score",
    "vote",
    "wilson",
]

#: Level of the intervals around shares.
LEVEL = 0.95


def score(
    results: Sequence[CaseResult],
    target: TargetSettings,
    *,
    zero_shot: Sequence[CaseResult] | None = None,
    direction_of: Literal["change", "value"] = "change",
    passes_at: float = JudgeSettings().passes_at,
) -> dict[str, Any]:
    """All figures of one arm, ready for JSON.

    Parameters
    ----------
    zero_shot
        The same cases by the arm without memory, for `self_correction_lift`.
    direction_of
        What has a direction: `change`, answer and truth against the last value; `value`, their own sign, where the target is a move.
    passes_at
        Verdict from which on a judged answer counts as right.

    Returns
    -------
    dict
        `n`: cases. Numbers: `mae`, `mse`, `rmse`, in the target's unit; `mae_persistence`, `mase` (its share of persistence's MAE on the
        same cases, those where there is one) and `skill` (1 - `mase`). `directional_accuracy`, with `_low` and `_high` (Wilson, 95 %),
        over the `directional_n` cases whose truth has a direction; an answer without one is wrong, `directional_given` says how many had
        one, and with none at all the accuracy is absent; `up_rate` is what always saying "up" would score there.

        Categories and texts: `accuracy` with `_low` and `_high`. Categories: `top_k`, over the `top_k_n` cases with ranked labels;
        `vote_brier` (0 to 2) and `vote_log_loss` (nats) over `vote_n` cases, of the calibrated vote (see `vote`), not of the arm's own
        probabilities: it gives none.

        `interval_coverage` against `interval_level` over `interval_n` cases; `interval_width` in the target's unit, or labels; numbers:
        `interval_pinball`, mean pinball loss of the two ends, taken for the quantiles (1 ∓ level) / 2.

        `judge_alignment`: mean verdict over `judge_n` cases; `judge_agreement`: share of them where the verdict says what the truth says.

        `self_correction`: P(right at the entity's next case | wrong at this one), over `self_correction_n` such; `self_correction_lift`:
        minus the same of `zero_shot`. A number is right within `hit_within`, else within persistence's median error over the run.

        `failed`: cases by reason. `calls`, `tokens_per_step` (prompt and output, all purposes), `uncached_tokens_per_step` (where the
        servers say), `seconds_per_step`: a step is a case. `spent`: by purpose and `all`, in total. `memory`: `mean_words`, `max_words`,
        `revisions` (that were read, over all entities).

    Raises
    ------
    ResultsUnfit
        Values of another kind, or `zero_shot` has other cases.
    """
    rows = in_order(results)
    found: dict[str, Any] = {"n": len(rows)}
    if not rows:
        return found
    if target.kind == "number":
        found |= _errors(rows, target) | _directions(rows, direction_of)
    else:
        found |= _share("accuracy", sum(loss(row, target) == 0.0 for row in rows), len(rows))
    if target.kind == "category":
        found |= _ranks(rows, target) | _vote_scores(rows, target)
    within = _hit_size(rows, target)
    found |= _intervals(rows, target) | _judged(rows, target, within, passes_at) | _self_corrections(rows, target, within, zero_shot)
    found["failed"] = dict(sorted(Counter(row.failed for row in rows if row.failed).items()))
    found |= _costs(rows)
    found["memory"] = _memory(rows)
    known: dict[str, Any] = _had(found)
    return known


def vote(results: Sequence[CaseResult], target: TargetSettings) -> list[dict[str, float]]:
    """A probability of each label for each case, in order: the calibrated vote.

    Arms answer with labels, not with probabilities, so probabilities are made from how often this arm's first, second, ... rank came
    true in the cases before. Of K labels, the one at rank r gets (c_r + 1) / (n + K), with c_r of the n cases so far true at rank r
    (Laplace); labels the arm did not rank share the ranks below evenly, and a truth among them counts evenly for those. So each vote
    sums to 1, the first is uniform, and none knows its own truth. It counts by the order of cases, as if each truth came before the next
    observation. Cases whose truth is none of the labels teach it nothing.
    """
    size = len(target.labels)
    true_at, seen, votes = [0.0] * size, 0, []
    for row in in_order(results):
        ranked = [label for label in dict.fromkeys((str(row.answer.value), *row.answer.top)) if label in target.labels]
        rest = [label for label in target.labels if label not in ranked]
        below = sum(true_at[len(ranked) :]) / len(rest) if rest else 0.0
        counts = dict(zip(ranked, true_at, strict=False)) | dict.fromkeys(rest, below)
        votes.append({label: (counts[label] + 1.0) / (seen + size) for label in target.labels})
        if row.truth in target.labels:
            seen += 1
            if row.truth in ranked:
                true_at[ranked.index(str(row.truth))] += 1.0
            else:
                true_at[len(ranked) :] = [count + 1.0 / len(rest) for count in true_at[len(ranked) :]]
    return votes


def wilson(hits: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a share; `n` of 1 or more.

    Examples
    --------
    >>> low, high = wilson(50, 100)
    >>> round(low, 4), round(high, 4)
    (0.4038, 0.5962)
    """
    z = NormalDist().inv_cdf((1.0 + level) / 2.0)
    share = hits / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # The bounds at 0 and n hits are 0 and 1 exactly, which rounding misses.
    return (0.0 if hits == 0 else middle - half), (1.0 if hits == n else middle + half)


def _errors(rows: Sequence[CaseResult], target: TargetSettings) -> dict[str, Any]:
    errors = [loss(row, target) for row in rows]
    mse = mean([error * error for error in errors])
    found: dict[str, Any] = {"mae": mean(errors), "mse": mse, "rmse": math.sqrt(mse)}
    known = [
        (error, loss(row, target, row.naive[PERSISTENCE])) for row, error in zip(rows, errors, strict=True) if PERSISTENCE in row.naive
    ]
    if known:
        naive = mean([last for _, last in known])
        found["mae_persistence"] = naive
        if naive > 0.0:
            found["mase"] = mean([error for error, _ in known]) / naive
            found["skill"] = 1.0 - found["mase"]
    return found


def _directions(rows: Sequence[CaseResult], direction_of: Literal["change", "value"]) -> dict[str, Any]:
    pairs = []
    for row in rows:
        if direction_of == "change" and PERSISTENCE not in row.naive:
            continue
        start = number(row, row.naive[PERSISTENCE]) if direction_of == "change" else 0.0
        pairs.append((_sign(number(row, row.answer.value) - start), _sign(number(row, row.truth) - start)))
    moved = [(said, came) for said, came in pairs if came]
    if not moved:
        return {}
    given = sum(said != 0 for said, _ in moved)
    found: dict[str, Any] = {
        "directional_n": len(moved),
        "directional_given": given,
        "up_rate": sum(came > 0 for _, came in moved) / len(moved),
    }
    return found | (_share("directional_accuracy", sum(said == came for said, came in moved), len(moved)) if given else {})


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _ranks(rows: Sequence[CaseResult], target: TargetSettings) -> dict[str, Any]:
    ranked = [row for row in rows if row.answer.top]
    if not ranked:
        return {}
    hits = sum(row.truth == row.answer.value or row.truth in row.answer.top[: target.top_k] for row in ranked)
    return {"top_k": hits / len(ranked), "top_k_n": len(ranked)}


def _vote_scores(rows: Sequence[CaseResult], target: TargetSettings) -> dict[str, Any]:
    cast = [(chances, str(row.truth)) for chances, row in zip(vote(rows, target), rows, strict=True) if row.truth in target.labels]
    if not cast:
        return {}
    brier = [sum((chance - (label == truth)) ** 2 for label, chance in chances.items()) for chances, truth in cast]
    return {
        "vote_n": len(cast),
        "vote_brier": mean(brier),
        "vote_log_loss": mean([-math.log(chances[truth]) for chances, truth in cast]),
    }


def _intervals(rows: Sequence[CaseResult], target: TargetSettings) -> dict[str, Any]:
    given = [(row, row.interval) for row in rows if row.interval is not None]
    if not given:
        return {}
    found: dict[str, Any] = {
        "interval_n": len(given),
        "interval_level": mean([interval.level for _, interval in given]),
        "interval_coverage": sum(covers(interval, row.truth) for row, interval in given) / len(given),
    }
    if target.kind != "number":
        return found | {"interval_width": mean([float(len(interval.labels)) for _, interval in given])}
    ends = [(number(row, row.truth), i.level, i.low, i.high) for row, i in given if i.low is not None and i.high is not None]
    if ends:
        found["interval_width"] = mean([min(high - low, WORST) for _, _, low, high in ends])
        lows = [_pinball(truth, low, (1.0 - level) / 2.0) for truth, level, low, _ in ends]
        found["interval_pinball"] = mean(lows + [_pinball(truth, high, (1.0 + level) / 2.0) for truth, level, _, high in ends])
    return found


def _pinball(truth: float, quantile: float, at: float) -> float:
    missed = min(max(truth - quantile, -WORST), WORST)
    return max(at * missed, (at - 1.0) * missed)


def _hit_size(rows: Sequence[CaseResult], target: TargetSettings) -> float | None:
    """The error up to which an answer is right; None where nothing says so."""
    if target.kind != "number":
        return 0.0
    if target.hit_within is not None:
        return target.hit_within
    naive = [loss(row, target, row.naive[PERSISTENCE]) for row in rows if PERSISTENCE in row.naive]
    return median(naive) if naive else None


def _judged(rows: Sequence[CaseResult], target: TargetSettings, within: float | None, passes_at: float) -> dict[str, Any]:
    verdicts = [(row, row.verdict) for row in rows if row.verdict is not None]
    if not verdicts:
        return {}
    found: dict[str, Any] = {"judge_n": len(verdicts), "judge_alignment": mean([verdict for _, verdict in verdicts])}
    if within is not None:
        agreed = sum((verdict >= passes_at) == (loss(row, target) <= within) for row, verdict in verdicts)
        found["judge_agreement"] = agreed / len(verdicts)
    return found


def _self_corrections(
    rows: Sequence[CaseResult], target: TargetSettings, within: float | None, zero_shot: Sequence[CaseResult] | None
) -> dict[str, Any]:
    if zero_shot is not None and Counter((row.entity, row.id) for row in rows) != Counter((row.entity, row.id) for row in zero_shot):
        raise ResultsUnfit("the arm without memory did not run over the same cases: nothing can be set against it")
    if within is None:
        return {}
    corrected, wrong = _corrections(rows, target, within)
    if not wrong:
        return {}
    found: dict[str, Any] = {"self_correction": corrected / wrong, "self_correction_n": wrong}
    if zero_shot is not None:
        theirs, of = _corrections(in_order(zero_shot), target, within)
        if of:
            found["self_correction_lift"] = corrected / wrong - theirs / of
    return found


def _corrections(rows: Sequence[CaseResult], target: TargetSettings, within: float) -> tuple[int, int]:
    """How many answers were right after a wrong one of the same entity, of how many."""
    was_right: dict[str, bool] = {}
    corrected = wrong = 0
    for row in rows:
        right = loss(row, target) <= within
        if not was_right.get(row.entity, True):
            wrong += 1
            corrected += right
        was_right[row.entity] = right
    return corrected, wrong


def _costs(rows: Sequence[CaseResult]) -> dict[str, Any]:
    by_purpose: dict[str, list[Spent]] = defaultdict(list)
    for row in rows:
        for purpose, spent in row.spent.items():
            by_purpose[purpose].append(spent)
    everything = _total([spent for all_spent in by_purpose.values() for spent in all_spent])
    tokens = everything["prompt_tokens"] + everything["output_tokens"]
    uncached = None if everything["cached_tokens"] is None else (tokens - everything["cached_tokens"]) / len(rows)
    return {
        "calls": everything["calls"],
        "calls_per_step": everything["calls"] / len(rows),
        "tokens_per_step": tokens / len(rows),
        "uncached_tokens_per_step": uncached,
        "seconds_per_step": everything["seconds"] / len(rows),
        "spent": {"all": everything} | {purpose: _total(by_purpose[purpose]) for purpose in sorted(by_purpose)},
    }


def _total(spent: Sequence[Spent]) -> dict[str, Any]:
    # One server that does not say what came from its cache leaves the sum unknown. Where nothing was asked, nothing came from it.
    asked = [one.cached_tokens for one in spent if one.calls or one.cached_tokens is not None]
    known = [tokens for tokens in asked if tokens is not None]
    return {
        "calls": sum(one.calls for one in spent),
        "remembered": sum(one.remembered for one in spent),
        "prompt_tokens": sum(one.prompt_tokens for one in spent),
        "cached_tokens": sum(known) if len(known) == len(asked) else None,
        "output_tokens": sum(one.output_tokens for one in spent),
        "seconds": math.fsum(one.seconds for one in spent),
    }


def _memory(rows: Sequence[CaseResult]) -> dict[str, Any]:
    newest: dict[str, int] = defaultdict(int)
    for row in rows:
        newest[row.entity] = max(newest[row.entity], row.revision)
    words = [row.words for row in rows]
    return {"mean_words": sum(words) / len(words), "max_words": max(words), "revisions": sum(newest.values())}


def _share(name: str, hits: int, n: int) -> dict[str, Any]:
    low, high = wilson(hits, n)
    return {name: hits / n, f"{name}_low": low, f"{name}_high": high}


def _had(found: Any) -> Any:
    """What there is of the figures: no None, nothing that is not finite."""
    if isinstance(found, Mapping):
        known = {key: _had(value) for key, value in found.items()}
        return {key: value for key, value in known.items() if value is not None}
    return None if isinstance(found, float) and not math.isfinite(found) else found
