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
    condition = Condition(field=name, op="at-least", value=character * 60)
    rule = Rule(when=(condition,) * 3, then=character * 60, hits=1000, cases=1000, spread=0.123456789, tentative=True)
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
@pytest.mark.parametrize("record", [262_144, 900_000], ids=["default", "largest"])
def test_a_record_with_every_list_full_of_longest_texts_fits_its_bound_and_kafkas(given: Any, character: str, record: int) -> None:
    limits = BoundSettings(record=record, pending=64, resolved=64)
    state = full_state(given, character, limits)
    assert len(encode_state(state)) > KAFKA_LIMIT

    kept = bounds.bound(state, limits)

    encoded = encode_state(kept.state)
    assert len(encoded) <= record
    assert len(encoded) < KAFKA_LIMIT
    assert decode_state(encoded) == kept.state
    assert kept.counts["dropped.resolved"] == limits.resolved - len(kept.state.resolved)
    assert len(kept.evicted) == limits.early - len(kept.state.early)
    assert kept.state.folded.count == limits.feedback - len(kept.state.feedback)
    assert kept.state.pending[-1] == state.pending[-1]


@pytest.mark.parametrize("character", LONGEST, ids=["control", "four bytes", "quote", "letter"])
def test_a_record_is_never_larger_than_it_was_reckoned_and_rarely_much_smaller(given: Any, character: str) -> None:
    state = full_state(given, character, BoundSettings(pending=8, resolved=16))

    reckoned, encoded = bounds.size(state), len(encode_state(state))

    assert encoded <= reckoned <= 1.1 * encoded


@examples(max_examples=80, deadline=None)
@drawn(
    values=st.dictionaries(
        st.text(max_size=20), st.one_of(st.text(max_size=40), st.floats(allow_nan=False, allow_infinity=False), st.booleans())
    ),
    forecast=st.floats(allow_nan=False, allow_infinity=False),
    note=st.text(max_size=60),
    seq=st.integers(1, 2**53),
)
def test_whatever_a_row_holds_it_is_reckoned_from_above(values: Any, forecast: float, note: str, seq: int) -> None:
    moment = "2024-03-01T00:00:00.123456+00:00"
    common = {
        "id": note or "o",
        "time": moment,
        "target_time": moment,
        "made_at": moment,
        "values": values,
        "forecast": {"value": forecast},
    }
    rows = [{**common, "seq": seq, "truth": forecast, "note": note, "flags": ["late"], "reference": forecast, "result": "judged"}] * 3
    state = EntityState.model_validate({"entity": "north", "pending": [{**common, "due": moment}] * 3, "resolved": rows})

    assert bounds.size(state) - bounds.size(EntityState(entity="north")) >= len(encode_state(state)) - len(
        encode_state(EntityState(entity="north"))
    )


def test_a_state_within_its_bounds_comes_back_as_it_is(given: Any) -> None:
    state = given.state(pending=(given.pending(0),), resolved=(given.resolved(1),), early=(given.early(of="o9"),))

    kept = bounds.bound(state, BoundSettings())

    assert kept.state is state
    assert kept.evicted == ()
    assert kept.counts == {}


def test_the_oldest_entries_of_a_list_that_is_too_long_go_and_are_counted(given: Any) -> None:
    rows = tuple(given.resolved(hour, seq=hour + 1) for hour in range(20))
    state = given.state(pending=tuple(given.pending(hour) for hour in range(5)), resolved=rows, dropped={"pending": 7})

    kept = bounds.bound(state, BoundSettings(pending=3, resolved=16))

    assert [pending.id for pending in kept.state.pending] == ["o2", "o3", "o4"]
    assert kept.state.resolved == rows[4:]
    assert kept.counts == {"dropped.pending": 2, "dropped.resolved": 4}
    assert kept.state.dropped == {"pending": 9, "resolved": 4}


def test_of_waiting_predictions_those_go_first_that_were_never_published(given: Any) -> None:
    waiting = [given.pending(hour, flags=("conflated",) if hour in (1, 3) else ()) for hour in range(5)]

    kept = bounds.bound(given.state(pending=tuple(waiting)), BoundSettings(pending=2))

    assert [pending.id for pending in kept.state.pending] == ["o2", "o4"]


def test_early_truths_without_room_are_handed_back(given: Any) -> None:
    early = tuple(given.early(float(place), of=f"o{place}") for place in range(5))

    kept = bounds.bound(given.state(early=early), BoundSettings(early=2))

    assert kept.evicted == early[:3]
    assert kept.state.early == early[3:]


def test_feedback_over_its_bound_is_folded_into_a_summary_with_its_misses(given: Any) -> None:
    rows = tuple(given.resolved(hour, 12.0 + hour, seq=hour + 1) for hour in range(4))
    feedback = tuple(Feedback(seq=row.seq, text="sky clear", miss=row.seq == 2) for row in rows)
    state = given.state(resolved=rows, feedback=feedback)

    kept = bounds.bound(bounds.bound(state, BoundSettings(feedback=2)).state, BoundSettings(feedback=1)).state

    assert kept.feedback == feedback[3:]
    assert (kept.folded.count, kept.folded.misses) == (3, 1)


def test_a_record_that_is_too_large_gives_up_old_outcomes_before_anything_else(given: Any) -> None:
    rows = tuple(given.resolved(hour, "x" * 1_000, seq=hour + 1, forecast="y") for hour in range(40))
    state = given.state(resolved=rows, pending=(given.pending(50),), early=(given.early(of="o99"),))

    kept = bounds.bound(state, BoundSettings(record=40_000))

    assert set(kept.counts) == {"dropped.resolved"}
    assert bounds.LEAST_RESOLVED <= len(kept.state.resolved) < 40
    assert kept.state.resolved == rows[-len(kept.state.resolved) :]
    assert len(encode_state(kept.state)) <= 40_000


def test_an_observation_with_too_much_in_it_is_cut_and_the_cuts_are_counted() -> None:
    limits = BoundSettings(text=50, record=16_384)
    values = {"sky": "c" * 80, "wind": 3.5, "calm": True, "page": "p" * 10, **{f"field {place}": "z" * 50 for place in range(100)}}

    kept, cut = bounds.cut_values(values, limits)

    assert kept["sky"] == "c" * 50
    assert (kept["wind"], kept["calm"], kept["page"]) == (3.5, True, "p" * 10)
    assert cut == 1 + len(values) - len(kept)
    assert len(kept) < 40


def test_texts_and_answers_are_cut_to_their_bound_and_numbers_pass() -> None:
    limits = BoundSettings(text=50)

    assert bounds.cut_text("x" * 60, limits) == "x" * 50
    assert bounds.cut_value(1e300, limits) == 1e300
    assert bounds.cut_answer(Answer(value="x" * 60), limits) == Answer(value="x" * 50)
    assert bounds.cut_answer(Answer(value="rain", top=("rain", "sun")), limits).top == ("rain", "sun")


def test_a_full_ring_of_ordinary_outcomes_fits_the_default_bound(given: Any) -> None:
    row: dict[str, Any] = {"values": {f"field {place}": 1.5 * place for place in range(8)}, "experts": dict.fromkeys(ARMS[3:], 12.5)}
    rows = tuple(given.resolved(hour, seq=hour + 1, model_answer=Answer(value=11.5), **row) for hour in range(256))
    waiting = tuple(given.pending(hour, model_answer=Answer(value=11.5), **row) for hour in range(256))

    assert bounds.bound(given.state(resolved=rows, pending=waiting), BoundSettings()).counts == {}
