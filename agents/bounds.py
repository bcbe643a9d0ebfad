"""Keeping an entity's record within its bounds: lists, texts, and the bytes of the whole.

Nothing is silent: what falls out is counted in `state.dropped` and in the step's counts, and feedback is folded into a summary, because every
outcome must reach the next rewrite in some form. Each list keeps its newest entries. Where the record is still too large, entries go
in this order, oldest first, until it fits:

1. resolved predictions, down to `KEEP_RESOLVED`: what is lost is how far back duplicates and corrections are recognised;
2. past memories, down to the present one: what is lost is how far back one can roll back;
3. early truths: they go the way of orphans;
4. feedback, folded;
5. pending predictions, down to the newest: their outcomes will be orphans;
6. the rest of the resolved ones.

The size is estimated from above, in one pass and without encoding the record: whatever holds text is measured exactly, field names and
numbers are counted at their longest. The estimate lies some percent above the true size, which is never larger.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from schemas.messages import Answer, Interval, Scalar, Value
from schemas.settings import BoundSettings
from schemas.state import EarlyTruth, EntityState, Feedback, FoldedFeedback, Memory, Pending, Resolved, Revision

#: Resolved predictions that are kept while there is anything else to drop: enough for duplicates and the newest rules.
KEEP_RESOLVED = 16

#: Bytes of a record's fixed part: field names, times, flags, sums and the header, all at their longest.
_FIXED = 1_400
#: Bytes of one row's field names, times and numbers at their longest; what varies is measured.
_RESOLVED = 560
_PENDING = 520
_EARLY = 330
_FEEDBACK = 60
_REVISION = 180
#: Bytes of a statement around its text; of a rule around its conditions.
_STATEMENT = 24
_RULE = 140
_CONDITION = 48
#: Bytes of one arm's sums.
_SCORE = 190
#: A JSON number at its longest, with what stands around it.
_NUMBER = 26


class Bounded(NamedTuple):
    """A state within its bounds, and what fell out by count key (`dropped.pending`, ...)."""

    state: EntityState
    dropped: Mapping[str, int]


def cut(text: str, bounds: BoundSettings) -> str:
    """A text as it may enter a record."""
    return text if len(text) <= bounds.text else text[: bounds.text]


def cut_value(value: Value, bounds: BoundSettings) -> Value:
    """A value as it may enter a record; numbers pass."""
    return cut(value, bounds) if isinstance(value, str) else value


def cut_values(values: Mapping[str, Scalar], bounds: BoundSettings) -> tuple[dict[str, Scalar], int]:
    """An observation's values as they may enter a record, and how many were cut."""
    long = [name for name, value in values.items() if isinstance(value, str) and len(value) > bounds.text]
    kept = dict(values)
    for name in long:
        kept[name] = str(kept[name])[: bounds.text]
    return kept, len(long)


def cut_answer(answer: Answer, bounds: BoundSettings) -> Answer:
    """A forecast as it may enter a record."""
    return answer if not isinstance(answer.value, str) or len(answer.value) <= bounds.text else Answer(value=cut(answer.value, bounds))


def enforce(state: EntityState, bounds: BoundSettings) -> Bounded:
    """Bring a state within its bounds; a state that is within them comes back as it is."""
    dropped: dict[str, int] = {}
    for name, limit in (
        ("resolved", bounds.resolved),
        ("revisions", bounds.revisions),
        ("early", bounds.early),
        ("feedback", bounds.feedback),
        ("pending", bounds.pending),
    ):
        state = _shorten(state, name, len(getattr(state, name)) - limit, dropped)
    state = _fit(state, bounds.record, dropped)
    if not dropped:
        return Bounded(state, {})
    total = dict(state.dropped)
    for name, count in dropped.items():
        total[name] = total.get(name, 0) + count
    return Bounded(state.model_copy(update={"dropped": total}), {f"dropped.{name}": count for name, count in dropped.items()})


def fold(folded: FoldedFeedback, old: Sequence[Feedback], resolved: Sequence[Resolved]) -> FoldedFeedback:
    """Add feedback to the summary of what fell out; a number's error is read off the ledger row as far as that is still there."""
    rows = {row.seq: row for row in resolved}
    error = 0.0
    for feedback in old:
        row = rows.get(feedback.seq)
        if row is not None and isinstance(row.truth, float | int) and isinstance(row.forecast.value, float | int):
            error += row.truth - row.forecast.value
    return FoldedFeedback(
        count=folded.count + len(old),
        misses=folded.misses + sum(feedback.miss for feedback in old),
        error_sum=round(folded.error_sum + error, 9),
    )


def estimate(state: EntityState) -> int:
    """Bytes of the encoded record, from above."""
    return _rest(state) + sum(sum(map(size, getattr(state, name))) for name, size in _SIZES.items())


def _shorten(state: EntityState, name: str, count: int, dropped: dict[str, int]) -> EntityState:
    """Take the `count` oldest entries off a list."""
    if count <= 0:
        return state
    entries = getattr(state, name)
    update: dict[str, Any] = {name: entries[count:]}
    if name == "feedback":
        update["folded"] = fold(state.folded, entries[:count], state.resolved)
    dropped[name] = dropped.get(name, 0) + count
    return state.model_copy(update=update)


def _fit(state: EntityState, limit: int, dropped: dict[str, int]) -> EntityState:
    sizes = {name: [size(entry) for entry in getattr(state, name)] for name, size in _SIZES.items()}
    excess = _rest(state) + sum(map(sum, sizes.values())) - limit
    if excess <= 0:
        return state
    for name, keep in (("resolved", KEEP_RESOLVED), ("revisions", 1), ("early", 0), ("feedback", 0), ("pending", 1), ("resolved", 0)):
        count = 0
        while excess > 0 and len(sizes[name]) > keep:
            excess -= sizes[name].pop(0)
            count += 1
        state = _shorten(state, name, count, dropped)
    return state


def _rest(state: EntityState) -> int:
    experts, mixture, interval = state.experts, state.mixture, state.interval
    varying = [
        state.entity, state.applied, state.truth_counts, state.dropped, experts.recent, experts.counts, experts.transitions,
        experts.last, mixture.regret, mixture.square, interval.residuals,
    ]  # fmt: skip
    scores = sum(len(arm) + _SCORE for arm in state.scores)
    return _FIXED + _bytes(varying) + scores + _memory(state.memory)


def _bytes(value: object) -> int:
    return len(orjson.dumps(value))


def _interval(interval: Interval | None) -> int:
    if interval is None:
        return 0
    return 40 + 3 * _NUMBER + (_bytes(interval.labels) if interval.labels else 0)


def _row(row: Pending | Resolved) -> int:
    model = row.model_answer
    answers = [row.id, row.values, row.experts, row.forecast.value, row.forecast.top, row.flags, row.digest, row.reference]
    if model is not None:
        answers += [model.value, model.top]
    return _bytes(answers) + _interval(row.interval)


def _pending(row: Pending) -> int:
    return _PENDING + _row(row)


def _resolved(row: Resolved) -> int:
    return _RESOLVED + _row(row) + _bytes([row.truth, row.note])


def _early(truth: EarlyTruth) -> int:
    origin = 0 if truth.origin is None else 80 + len(truth.origin.topic)
    return _EARLY + _bytes([truth.observation_id, truth.value, truth.note, truth.raw]) + origin


def _feedback(feedback: Feedback) -> int:
    return _FEEDBACK + _bytes(feedback.text)


def _memory(memory: Memory) -> int:
    size = 40
    for name, statements in memory.sections.items():
        size += _bytes(name) + 4
        for statement in statements:
            size += _STATEMENT + _bytes(statement.text)
            if statement.rule is not None:
                rule = statement.rule
                size += _RULE + _bytes(rule.then) + sum(_CONDITION + _bytes([c.field, c.value]) for c in rule.when)
    return size


def _revision(revision: Revision) -> int:
    return _REVISION + _memory(revision.memory)


_SIZES: Mapping[str, Callable[[Any], int]] = {
    "resolved": _resolved,
    "revisions": _revision,
    "early": _early,
    "feedback": _feedback,
    "pending": _pending,
}
