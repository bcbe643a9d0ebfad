"""Keeping a state within its bounds: counts of lists, lengths of texts, bytes of the record.

What falls out of a bound is counted, in the state and in the step, and never silent: feedback is folded into a summary, an early truth
that has no room is handed back as an orphan, so that it reaches the dead letters.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from schemas.messages import Scalar, Value
from schemas.settings import BoundSettings
from schemas.state import EarlyTruth, EntityState, FoldedFeedback, Pending, Resolved, encode_state

#: Resolved predictions that stay whatever the record's size: below it, duplicates and corrections would pass for orphans at once.
LEAST_RESOLVED = 16
#: Bytes of everything that no list holds, for the estimate that saves encoding most records twice.
_FIXED = 8_192


class Bounded(NamedTuple):
    """A state within its bounds, early truths that had no room, and what was dropped by list (`dropped.<list>`)."""

    state: EntityState
    evicted: tuple[EarlyTruth, ...]
    counts: dict[str, int]


def cut_text(value: Value | Scalar, limit: int) -> Value | Scalar:
    """Cut a text to `limit` characters; numbers and flags pass."""
    return value[:limit] if isinstance(value, str) else value


def bound(state: EntityState, bounds: BoundSettings) -> Bounded:
    """Drop what is over a bound, the oldest first.

    For the record's size: resolved predictions down to `LEAST_RESOLVED`, then old revisions, early truths, feedback (folded), and last
    of all waiting predictions.
    """
    dropped: Counter[str] = Counter()
    evicted: list[EarlyTruth] = []
    state = _fold(state, max(0, len(state.feedback) - bounds.feedback), dropped)
    for name in ("pending", "resolved", "revisions"):
        state = _drop(state, name, len(getattr(state, name)) - getattr(bounds, name), dropped)
    over = len(state.early) - bounds.early
    if over > 0:
        evicted += state.early[:over]
        state = _drop(state, "early", over, dropped)
    while (excess := _excess(state, bounds)) > 0:
        before = state
        if len(state.resolved) > LEAST_RESOLVED:
            # Rows are about alike, so the share of the excess tells how many must go; at least one, so that it ends.
            share = min(len(state.resolved) - LEAST_RESOLVED, max(1, excess * len(state.resolved) // (2 * bounds.record)))
            state = _drop(state, "resolved", share, dropped)
        elif state.revisions:
            state = _drop(state, "revisions", 1, dropped)
        elif state.early:
            evicted.append(state.early[0])
            state = _drop(state, "early", 1, dropped)
        elif len(state.feedback) > 1:
            state = _fold(state, 1, dropped)
        elif state.pending:
            state = _drop(state, "pending", 1, dropped)
        if state is before:
            break
    if dropped:
        totals = {**state.dropped}
        for name, count in dropped.items():
            totals[name] = totals.get(name, 0) + count
        state = state.model_copy(update={"dropped": totals})
    return Bounded(state, tuple(evicted), {f"dropped.{name}": count for name, count in dropped.items()})


def _drop(state: EntityState, name: str, count: int, dropped: Counter[str]) -> EntityState:
    if count <= 0:
        return state
    dropped[name] += count
    return state.model_copy(update={name: getattr(state, name)[count:]})


def _fold(state: EntityState, count: int, dropped: Counter[str]) -> EntityState:
    if count <= 0:
        return state
    dropped["feedback"] += count
    errors = {row.seq: row.truth - row.forecast.value for row in state.resolved if _numeric(row.truth) and _numeric(row.forecast.value)}  # type: ignore[operator]
    gone, folded = state.feedback[:count], state.folded
    summary = FoldedFeedback(
        count=folded.count + count,
        misses=folded.misses + sum(f.miss for f in gone),
        error_sum=round(folded.error_sum + sum(errors.get(f.seq, 0.0) for f in gone), 6),
    )
    return state.model_copy(update={"feedback": state.feedback[count:], "folded": summary})


def _numeric(value: object) -> bool:
    return isinstance(value, float | int)


def _excess(state: EntityState, bounds: BoundSettings) -> int:
    """Bytes over the record's bound; encodes only a state that may be over it."""
    if _FIXED + _estimate(state, bounds) <= bounds.record:
        return 0
    return len(encode_state(state)) - bounds.record


def _estimate(state: EntityState, bounds: BoundSettings) -> int:
    """An upper estimate of the record's bytes, from counts and from the texts of the newest rows."""
    texts = sum(len(f.text) for f in state.feedback) + sum(len(e.raw) + len(str(e.value)) + len(e.note) for e in state.early)
    texts += sum(len(s.text) for r in state.revisions for lines in r.memory.sections.values() for s in lines)
    rows: tuple[Pending | Resolved, ...] = (*state.pending, *state.resolved)
    texts += sum(len(v) for row in rows for v in row.values.values() if isinstance(v, str))
    texts += sum(len(row.id) + len(str(row.forecast.value)) + sum(len(label) + 3 for label in row.forecast.top) for row in rows)
    texts += sum(len(str(row.model_answer.value)) for row in rows if row.model_answer is not None)
    texts += sum(sum(len(str(v)) for v in row.experts.values()) for row in rows)
    texts += sum(len(row.note) + len(str(row.truth or "")) for row in state.resolved)
    # Six bytes for a character that JSON escapes; the frame of a row is its keys, times and numbers.
    fields = max((len(row.values) + len(row.experts) for row in rows[-8:]), default=0)
    frame = 420 + 36 * fields
    return 6 * texts + frame * (len(rows) + len(state.early)) + 400 * len(state.feedback) + 1_000 * len(state.revisions)
