"""What each answer missed by, and how that went on over a stream: the losses that scores and paired tests are made of.

References: Gama, Sebastião, Rodrigues (2013), Machine Learning 90:317-346 (prequential error with a fading factor).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from agents.scoring import WORST
from agents.text_scoring import matches
from schemas.messages import Value
from schemas.settings import TargetSettings
from streams import exits
from streams.errors import StreamError
from streams.evaluation.results import CaseResult


class ResultsUnfit(StreamError):
    """Results that cannot be scored: their values are not of the target's kind, or two arms did not run over the same cases."""

    exit_code = exits.USAGE


def in_order(results: Iterable[CaseResult]) -> list[CaseResult]:
    """The results as the stream had its cases."""
    return sorted(results, key=lambda row: row.index)


def loss(row: CaseResult, target: TargetSettings, answer: Value | None = None) -> float:
    """What the arm's answer missed by: the absolute error of a number (target's unit), else 0 for a hit and 1 for a miss.

    Texts are compared as `target.scorer` says; where that is a judge, as normalised texts, for here there is a truth.

    Parameters
    ----------
    answer
        Another's answer to the same case, in place of the arm's.

    Raises
    ------
    ResultsUnfit
        Answer or truth is not of the target's kind.
    """
    given = row.answer.value if answer is None else answer
    if target.kind == "number":
        return min(abs(number(row, row.truth) - number(row, given)), WORST)
    if not isinstance(given, str) or not isinstance(row.truth, str):
        raise ResultsUnfit(f"case {row.index} ({row.entity}, {row.id}): answer or truth is a number, but the target is a {target.kind}")
    if target.kind == "category":
        return float(given != row.truth)
    return float(not matches(given, row.truth, "normalised" if target.scorer == "judge" else target.scorer).hit)


def learning_curve(results: Sequence[CaseResult], target: TargetSettings, fading: float = 0.95) -> list[float]:
    """Prequential score after each case: accuracy, or mean absolute error for numbers, a case that is k back weighing `fading`^k.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> from schemas.messages import Answer
    >>> said = [("rain", "rain"), ("rain", "sun")]
    >>> rows = [
    ...     CaseResult(index=i, entity="here", id=str(i), time=datetime(2024, 1, 1, tzinfo=UTC), truth=truth, answer=Answer(value=answer))
    ...     for i, (answer, truth) in enumerate(said)
    ... ]
    >>> learning_curve(rows, TargetSettings(kind="category", labels=("rain", "sun")), fading=0.5)
    [1.0, 0.3333333333333333]
    """
    curve, total, weight = [], 0.0, 0.0
    for value in _progress(results, target):
        total, weight = fading * total + value, fading * weight + 1.0
        curve.append(total / weight)
    return curve


def blocks(results: Sequence[CaseResult], target: TargetSettings, size: int) -> list[float]:
    """Accuracy, or mean absolute error for numbers, of each `size` cases in a row; the last block holds what is left over.

    Raises
    ------
    ValueError
        `size` is no positive number.
    """
    if size < 1:
        raise ValueError(f"a block of {size} cases is none")
    values = _progress(results, target)
    return [mean(values[start : start + size]) for start in range(0, len(values), size)]


def number(row: CaseResult, value: Value) -> float:
    """The value as a number.

    Raises
    ------
    ResultsUnfit
        It is a text.
    """
    if isinstance(value, str):
        raise ResultsUnfit(f"case {row.index} ({row.entity}, {row.id}): {value!r} is no number, but the target is one")
    return value


def mean(values: Sequence[float]) -> float:
    """The mean, whatever the order of the values; of at least one."""
    return math.fsum(values) / len(values)


def _progress(results: Sequence[CaseResult], target: TargetSettings) -> list[float]:
    losses = [loss(row, target) for row in in_order(results)]
    return losses if target.kind == "number" else [1.0 - missed for missed in losses]
