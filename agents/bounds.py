"""Keeping a state within its bounds: counts of lists, lengths of texts, bytes of the record.

What falls out of a bound is counted, in the state and in the step, and never silent: feedback is folded into a summary, an early truth
that has no room is handed back, so that it reaches the dead letters as an orphan.

The record's size is reckoned from above, some percent over the encoded one and in less time: times are counted at their longest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
from pydantic import BaseModel

from schemas.messages import Answer, Scalar, Value
from schemas.settings import BoundSettings
from schemas.state import HEADER_SIZE, EarlyTruth, EntityState, Feedback, FoldedFeedback

#: Resolved predictions that stay while there is anything else to drop: with fewer, duplicates and corrections pass for orphans at once.
LEAST_RESOLVED = 16
#: One row's observed values may take this share of the record's bytes: an observation with thousands of fields must not push out the rest.
VALUES_SHARE = 1 / 16


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
    for name in ("feedback", "resolved", "revisions", "early", "pending"):
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
    return HEADER_SIZE + _bytes(state)


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
    folded = state.folded
    return FoldedFeedback(count=folded.count + len(gone), misses=folded.misses + sum(feedback.miss for feedback in gone))


def _fit(state: EntityState, record: int, dropped: Counter[str], evicted: list[EarlyTruth]) -> EntityState:
    # With all defaults written out, and three times as fast: enough to say that most states fit.
    if HEADER_SIZE + len(orjson.dumps(state, default=vars)) <= record or (excess := size(state) - record) <= 0:
        return state
    for name, least in (("resolved", LEAST_RESOLVED), ("revisions", 0), ("early", 0), ("feedback", 0), ("pending", 1), ("resolved", 0)):
        entries = getattr(state, name)
        gone = 0
        for place in _leaving(name, entries)[: max(0, len(entries) - least)]:
            if excess <= 0:
                break
            excess -= _bytes(entries[place])
            gone += 1
        state = _drop(state, name, gone, dropped, evicted)
    return state


def _bytes(value: object) -> int:
    return len(orjson.dumps(value, default=_without_defaults))


def _without_defaults(entry: BaseModel) -> dict[str, Any]:
    """An entry's fields as the record writes them."""
    defaults = _defaults(type(entry))
    return {name: value for name, value in vars(entry).items() if value != defaults[name]}


@lru_cache(maxsize=64)
def _defaults(kind: type[BaseModel]) -> dict[str, Any]:
    return {name: field.get_default(call_default_factory=True, validated_data={}) for name, field in kind.model_fields.items()}
