"""A record stays within its bounds, and nothing that falls out of them is silent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import settings as examples
from hypothesis import strategies as st

from agents import bounds
from schemas.messages import ENTITY_LIMIT, Answer, Interval
from schemas.settings import BoundSettings
from schemas.state import (
    ArmTotals,
    Condition,
    EntityState,
    ExpertsState,
    Feedback,
    IntervalState,
    Memory,
    MixtureState,
    Origin,
    Revision,
    Rule,
    Statement,
    decode_state,
    encode_state,
)

#: Kafka's default `max.message.bytes`.
KAFKA_LIMIT = 1_048_588
ARMS = ("published", "model", "rules", "persistence", "drift", "mean", "moving-mean", "seasonal")
#: What JSON makes six bytes of, what UTF-8 makes four of, what is escaped with two, and plain text.
LONGEST = ["\x01", "\U0001d11e", '"', "x"]


def full_state(given: Any, character: str, limits: BoundSettings) -> EntityState:
    """Every list as long as its bound allows, every text as long as its own."""
    text, name = character * limits.text, character * ENTITY_LIMIT
    answer = Answer(value=text)
    row: dict[str, Any] = {
        "identity": name,
        "values": bounds.cut_values({f"{place}{name}": text for place in range(20)}, limits)[0],
        "digest": "0123456789ab",
        "forecast": text,
        "model_answer": answer,
        "experts": {"persistence": text, "rules": text},
        "interval": Interval(level=0.8, low=-1.7976931348623157e308, high=1.7976931348623157e308, labels=(name,) * 20),
        "flags": ("late", "early", "corrected", "hindsight", "stale"),
        "memory_revision": 10**6,
        "reference": -1.7976931348623157e308,
        "due": given.at(0.123456789),
    }
    pending = tuple(given.pending(place / 7, **row) for place in range(limits.pending))
    settled = {key: value for key, value in row.items() if key not in ("identity", "due")} | {"id": name, "note": text, "verdict": 0.1}
    resolved = tuple(given.resolved(place / 7, text, seq=10**6 + place, miss=True, **settled) for place in range(limits.resolved))
    condition = Condition(field=name, op="at-least", value=text)
    rule = Rule(when=(condition,) * 3, then=text, hits=1000, cases=1000, spread=0.123456789, tentative=True)
    memory = Memory(revision=10**6, sections={"rules": tuple(Statement(text=character * 300, rule=rule) for _ in range(6))})
    return given.state(
        applied={f"observations/{partition}": 2**62 for partition in range(64)},
        newest=given.at(1.1),
        learned_to=given.at(1.2),
        touched_at=given.at(1.3),
        memory=memory,
        revisions=(Revision(memory=memory, cause="rule-dropped", made_at=given.at(0), outcomes=10**6, loss=1e150),) * limits.revisions,
        pending=pending,
        resolved=resolved,
        early=(early_truth(given, text, name),) * limits.early,
        feedback=tuple(Feedback(seq=10**6 + place, text=text, miss=True, judged=True) for place in range(limits.feedback)),
        rewrite_wanted=given.at(2),
        scores={arm: ArmTotals(n=10**9, abs_sum=1e150, square_sum=1e300, hits=10**9, top_hits=10**9, faded=1e150) for arm in ARMS},
        experts=ExpertsState(n=10**9, last=text, mean=1.23456789e-150, recent=(-1.2345678901234567e-150,) * 2000),
        mixture=MixtureState(regret=dict.fromkeys(ARMS, 1e-150), square=dict.fromkeys(ARMS, 1e150), scale=1e150),
        interval=IntervalState(alpha=0.123456, residuals=(1.23456e-150,) * 100),
    )


def early_truth(given: Any, text: str, name: str) -> Any:
    origin = Origin(topic="t" * 249, partition=10_000, offset=2**62, timestamp=2**50)
    return given.early(text, of=name, note=text, raw=text, origin=origin)


@pytest.mark.parametrize("character", LONGEST, ids=["control", "four bytes", "quote", "letter"])
@pytest.mark.parametrize("record", [16_384, 262_144, 900_000])
def test_a_record_with_every_list_full_of_longest_texts_fits_its_bound_and_kafkas(given: Any, character: str, record: int) -> None:
    limits = BoundSettings(record=record, pending=64, resolved=64)
    state = full_state(given, character, limits)
    assert len(encode_state(state)) > KAFKA_LIMIT

    kept = bounds.bound(state, limits)

    encoded = encode_state(kept.state)
    # What no list holds stays: a memory, what the experts know, one waiting prediction.
    floor = len(encode_state(state.model_copy(update=dict.fromkeys(("pending", "resolved", "early", "feedback", "revisions"), ()))))
    assert len(encoded) <= max(record, floor + 4 * 6 * limits.text * 3)
    assert len(encoded) < KAFKA_LIMIT
    assert decode_state(encoded) == kept.state
    assert kept.counts["dropped.resolved"] == limits.resolved - len(kept.state.resolved)
    assert len(kept.evicted) == limits.early - len(kept.state.early)
    assert kept.state.folded.count == limits.feedback - len(kept.state.feedback)
    assert kept.state.pending[-1] == state.pending[-1]
