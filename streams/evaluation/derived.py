"""Arms that cost nothing more: forecasters whose answers stand in another arm's results, taken out as arms of their own.

The naive forecasters, the memory's rules followed by code, and the guarded mixture. Every one answers every case of the arm, so that it
can be paired with any other arm on the same stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agents.experts import PERSISTENCE
from schemas.messages import Answer, Value
from streams.evaluation.losses import in_order
from streams.evaluation.results import CaseResult

#: In `naive`, the forecast that the target's answers adjust, where a dataset has one.
REFERENCE = "reference"
#: Why an answer is a fallback's: the naive forecaster had seen too little; none of the memory's rules applied.
TOO_EARLY, NO_RULE = "too-early", "no-rule"


def naive_results(results: Sequence[CaseResult]) -> dict[str, list[CaseResult]]:
    """The naive forecasters of the same cases as arms, by name; nothing is spent and no memory read.

    Where one had seen too little for a forecast, its answer is persistence's, and before that 0 or no label, marked as failed with
    `TOO_EARLY`: so all arms answer all cases.
    """
    rows = in_order(results)
    arms: dict[str, list[CaseResult]] = {name: [] for row in rows for name in row.naive}
    for name, arm in arms.items():
        for row in rows:
            known = name in row.naive
            arm.append(_answered(row, _fallback(row, (name, PERSISTENCE)), failed="" if known else TOO_EARLY))
    return arms


def executed_results(results: Sequence[CaseResult]) -> list[CaseResult]:
    """The memory's rules followed by code, as an arm; empty where no rule ever applied.

    Where none applies the answer is the reference forecast's, if the naive ones hold one, else persistence's, and the case is marked
    `NO_RULE`. Nothing is spent here: what the memory cost stands with the arm that wrote it.
    """
    rows = in_order(results)
    if all(row.executed is None for row in rows):
        return []
    arm = []
    for row in rows:
        failed = NO_RULE if row.executed is None else ""
        value = _fallback(row, (REFERENCE, PERSISTENCE)) if row.executed is None else row.executed
        arm.append(_answered(row, value, failed=failed, revision=row.revision, words=row.words))
    return arm


def guarded_results(results: Sequence[CaseResult]) -> list[CaseResult]:
    """What the arm's guarded mixture would have published, as an arm, at the arm's own cost; empty where the arm has none.

    Interval and verdict are left out: they were given to the arm's own answer.
    """
    rows = in_order(results)
    if all(row.published is None for row in rows):
        return []
    return [
        row.model_copy(update={"answer": row.published or row.answer, "published": None, "interval": None, "verdict": None}) for row in rows
    ]


def _fallback(row: CaseResult, names: Iterable[str]) -> Value:
    """The first of these naive answers that there is, else 0 or no label."""
    blank: Value = "" if isinstance(row.truth, str) else 0.0
    return next((row.naive[name] for name in names if name in row.naive), blank)


def _answered(row: CaseResult, value: Value, *, failed: str = "", revision: int = 0, words: int = 0) -> CaseResult:
    """The same case with another's answer, and nothing of the arm's own."""
    return CaseResult(
        index=row.index,
        entity=row.entity,
        id=row.id,
        time=row.time,
        truth=row.truth,
        answer=Answer(value=value),
        failed=failed,
        naive=row.naive,
        revision=revision,
        words=words,
    )
