"""The state record: a header that can be read alone, in front of the whole."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.messages import Answer
from schemas.state import (
    HEADER_SIZE,
    EarlyTruth,
    EntityState,
    Feedback,
    FoldedFeedback,
    Header,
    Pending,
    UnknownSchema,
    decode_state,
    encode_state,
    entity_key,
    next_due,
    read_header,
)

NOW = datetime(2024, 1, 1, 12, tzinfo=UTC)


def pending(due: datetime | None) -> Pending:
    return Pending(id="1", time=NOW, made_at=NOW, forecast=Answer(value=1.0), due=due)


def test_a_state_comes_back_as_it_was_written() -> None:
    state = EntityState(
        entity="sensor/7",
        applied={"observations/3": 12, "truths": 4},
        newest=NOW,
        pending=(pending(NOW + timedelta(hours=1)),),
        early=(EarlyTruth(target_time=NOW, value="sunny", arrived=NOW, due=NOW + timedelta(days=7), raw="\xff\x00{"),),
        feedback=(Feedback(seq=1, text="wind north -> high", miss=True),),
        folded=FoldedFeedback(count=3, misses=1),
        frozen=True,
    )
    assert decode_state(encode_state(state)) == state


def test_the_header_tells_the_next_due_time_and_the_waiting_feedback_without_the_rest() -> None:
    soon, later = NOW + timedelta(minutes=5), NOW + timedelta(hours=2)
    state = EntityState(
        entity="a",
        pending=(pending(None), pending(later)),
        early=(EarlyTruth(observation_id="x", value=1.0, arrived=NOW, due=soon),),
        feedback=(Feedback(seq=1, text="a"), Feedback(seq=2, text="b")),
        folded=FoldedFeedback(count=5),
    )
    header = read_header(encode_state(state)[:HEADER_SIZE])
    assert header == Header(schema=1, feedback=7, due=int(soon.timestamp() * 1000))
    assert next_due(state) == soon


def test_a_state_that_waits_for_nothing_has_no_due_time() -> None:
    header = read_header(encode_state(EntityState(entity="a", pending=(pending(None),))))
    assert header.due is None


@given(st.floats(-6.2e10, 2.5e11).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)))
def test_every_time_that_can_be_read_fits_the_header(moment: datetime) -> None:
    due = read_header(encode_state(EntityState(entity="a", rewrite_wanted=moment))).due
    assert due is not None
    assert abs(due - moment.timestamp() * 1000) < 2


def test_more_feedback_than_the_header_can_count_stays_at_its_most() -> None:
    assert read_header(encode_state(EntityState(entity="a", folded=FoldedFeedback(count=100_000)))).feedback == 0xFFFF


@pytest.mark.parametrize("record", [b"", b"\x01", b"\x02" + b"\0" * 20, b'{"entity":"a"}'])
def test_a_record_of_another_schema_is_refused_instead_of_read_wrongly(record: bytes) -> None:
    with pytest.raises(UnknownSchema, match="schema"):
        read_header(record)
    with pytest.raises(UnknownSchema):
        decode_state(record)


def test_an_entity_whose_name_looks_like_another_kind_of_key_collides_with_nothing() -> None:
    assert entity_key("p") == b"ep"
    assert entity_key("") != entity_key("e")
