"""Keeping a state within its bounds: counts of lists, lengths of texts, bytes of the record.

What falls out of a bound is counted, in the state and in the step, and never silent: feedback is folded into a summary, an early truth
that has no room is handed back, so that it reaches the dead letters as an orphan.

The record's size is measured from above without encoding it: whatever holds text is measured exactly, names of fields and numbers are
counted at their longest. So the encoded record is never larger than was reckoned, and rarely much smaller.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from schemas.messages import Answer, Interval, Scalar, Value
from schemas.settings import BoundSettings
from schemas.state import EarlyTruth, EntityState, Feedback, FoldedFeedback, Memory, Pending, Resolved, Revision

#: Resolved predictions that stay while there is anything else to drop: with fewer, duplicates and corrections pass for orphans at once.
LEAST_RESOLVED = 16
#: One row's observed values may take this share of the record's bytes: an observation with thousands of fields must not push out the rest.
VALUES_SHARE = 1 / 16

#: Sums stay finite whatever truths and forecasts are.
_MOST = 1e300

# Bytes of names, times and numbers at their longest; what varies is measured.
_FIXED = 2_000
_RESOLVED = 620
_PENDING = 560
_EARLY = 360
_FEEDBACK = 70
_REVISION = 200
_STATEMENT = 30
_RULE = 160
_CONDITION = 50
_ARM_TOTALS = 200
_NUMBER = 26


class Bounded(NamedTuple):
    """A state within its bounds, early truths that had no room, and what was dropped by list (`dropped.<list>`)."""

    state: EntityState
    evicted: tuple[EarlyTruth, ...]
    counts: dict[str, int]


def cut_text(text: str, bounds: BoundSettings) -> str:
    """A text as it may enter a record."""
    return text[: bounds.text]


def cut_value(value: Value, bounds: BoundSettings) -> Value:
    """A value as it may enter a record; numbers pass."""
    return value[: bounds.text] if isinstance(value, str) else value


def cut_answer(answer: Answer, bounds: BoundSettings) -> Answer:
    """An answer as it may enter a record; labels and numbers pass."""
    if not isinstance(answer.value, str) or len(answer.value) <= bounds.text:
        return answer
    return Answer(value=answer.value[: bounds.text])


def cut_raw(raw: bytes, bounds: BoundSettings) -> bytes:
    """A message's bytes as they may wait in a record; only one larger than an observation's values may be is cut."""
    return raw[: int(bounds.record * VALUES_SHARE)]


def cut_values(values: Mapping[str, Scalar], bounds: BoundSettings) -> tuple[dict[str, Scalar], int]:
    """An observation's values as they may enter a record, and how many of them were cut or left out.

    Texts are cut; fields that are over the row's share of the record are left out, the later ones first.
    """
    kept: dict[str, Scalar] = {}
    room, lost = int(bounds.record * VALUES_SHARE), 0
    for name, value in values.items():
        cut = value[: bounds.text] if isinstance(value, str) else value
        size = _bytes([name, cut])
        if size > room:
            lost += 1
            continue
        room -= size
        lost += cut != value
        kept[name] = cut
    return kept, lost


def bound(state: EntityState, bounds: BoundSettings) -> Bounded:
    """Drop what is over a bound, the oldest first; a state within its bounds comes back as it is.

    For the record's size go: resolved predictions down to `LEAST_RESOLVED`, then old revisions, early truths, feedback (folded), waiting
    predictions but the newest, and last of all the rest of the resolved ones.
    """
    dropped: Counter[str] = Counter()
    evicted: list[EarlyTruth] = []
    for name in _SIZES:
        state = _drop(state, name, len(getattr(state, name)) - getattr(bounds, name), dropped, evicted)
    state = _fit(state, bounds.record, dropped, evicted)
    if dropped:
        totals = {**state.dropped}
        for name, count in dropped.items():
            totals[name] = totals.get(name, 0) + count
        state = state.model_copy(update={"dropped": totals})
    return Bounded(state, tuple(evicted), {f"dropped.{name}": count for name, count in dropped.items()})


def size(state: EntityState) -> int:
    """Bytes of the encoded record, from above."""
    return _rest(state) + sum(sum(map(measure, getattr(state, name))) for name, measure in _SIZES.items())


def _drop(state: EntityState, name: str, count: int, dropped: Counter[str], evicted: list[EarlyTruth]) -> EntityState:
    if count <= 0:
        return state
    dropped[name] += count
    entries = getattr(state, name)
    gone = set(_leaving(name, entries)[:count])
    update: dict[str, object] = {name: tuple(entry for place, entry in enumerate(entries) if place not in gone)}
    if name == "early":
        evicted += state.early[:count]
    if name == "feedback":
        update["folded"] = _folded(state, state.feedback[:count])
    return state.model_copy(update=update)


def _leaving(name: str, entries: Sequence[Any]) -> list[int]:
    """Places in the order in which entries go: the oldest first, and of waiting predictions those first that were never published."""
    places = range(len(entries))
    return sorted(places, key=lambda place: "conflated" not in entries[place].flags) if name == "pending" else list(places)


def _folded(state: EntityState, gone: tuple[Feedback, ...]) -> FoldedFeedback:
    seqs = {feedback.seq for feedback in gone}
    errors = [
        row.truth - row.forecast.value
        for row in state.resolved
        if row.seq in seqs and isinstance(row.truth, float | int) and isinstance(row.forecast.value, float | int)
    ]
    total = round(state.folded.error_sum + sum(errors), 6)
    return FoldedFeedback(
        count=state.folded.count + len(gone),
        misses=state.folded.misses + sum(feedback.miss for feedback in gone),
        error_sum=min(max(total, -_MOST), _MOST),
    )


def _fit(state: EntityState, record: int, dropped: Counter[str], evicted: list[EarlyTruth]) -> EntityState:
    excess = size(state) - record
    if excess <= 0:
        return state
    for name, least in (("resolved", LEAST_RESOLVED), ("revisions", 0), ("early", 0), ("feedback", 0), ("pending", 1), ("resolved", 0)):
        entries = getattr(state, name)
        gone = 0
        for place in _leaving(name, entries)[: max(0, len(entries) - least)]:
            if excess <= 0:
                break
            excess -= _SIZES[name](entries[place])
            gone += 1
        state = _drop(state, name, gone, dropped, evicted)
    return state


def _rest(state: EntityState) -> int:
    experts, mixture = state.experts, state.mixture
    varying = [
        state.entity,
        state.applied,
        state.truth_counts,
        state.dropped,
        experts.recent,
        experts.counts,
        experts.transitions,
        experts.last,
        mixture.regret,
        mixture.square,
        state.interval.residuals,
    ]
    return _FIXED + _bytes(varying) + sum(_bytes(arm) + _ARM_TOTALS for arm in state.scores) + _memory(state.memory)


def _bytes(value: object) -> int:
    return len(orjson.dumps(value))


def _row(row: Pending | Resolved) -> int:
    said: list[object] = [row.id, row.values, row.experts, row.forecast.value, row.forecast.top, row.flags, row.digest, row.reference]
    if row.model_answer is not None:
        said += [row.model_answer.value, row.model_answer.top]
    return _bytes(said) + _interval(row.interval)


def _interval(interval: Interval | None) -> int:
    return 0 if interval is None else 50 + 3 * _NUMBER + _bytes(interval.labels)


def _resolved(row: Resolved) -> int:
    return _RESOLVED + _row(row) + _bytes([row.truth, row.note])


def _pending(row: Pending) -> int:
    return _PENDING + _row(row)


def _early(truth: EarlyTruth) -> int:
    origin = 0 if truth.origin is None else 100 + _bytes(truth.origin.topic)
    return _EARLY + _bytes([truth.observation_id, truth.value, truth.note, truth.raw]) + origin


def _feedback(feedback: Feedback) -> int:
    return _FEEDBACK + _bytes(feedback.text)


def _memory(memory: Memory) -> int:
    found = 40
    for name, statements in memory.sections.items():
        found += _bytes(name) + 4
        for statement in statements:
            found += _STATEMENT + _bytes(statement.text)
            if statement.rule is not None:
                conditions = statement.rule.when
                found += _RULE + _bytes(statement.rule.then) + sum(_CONDITION + _bytes([c.field, c.value]) for c in conditions)
    return found


def _revision(revision: Revision) -> int:
    return _REVISION + _memory(revision.memory)


_SIZES: Mapping[str, Callable[[Any], int]] = {
    "feedback": _feedback,
    "resolved": _resolved,
    "revisions": _revision,
    "early": _early,
    "pending": _pending,
}
