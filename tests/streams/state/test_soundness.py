"""What is said about one record: placement, header, bounds, offsets."""

from datetime import UTC, datetime, timedelta

import pytest
from aiokafka.structs import TopicPartition

from schemas.codec import encode
from schemas.messages import Answer
from schemas.settings import Settings
from schemas.state import HEADER_SIZE, PARTITION_KEY, EntityState, Feedback, PartitionState, Pending, encode_state, entity_key
from streams.partitioner import state_partition
from streams.state.soundness import examine

SETTINGS = Settings(observations={"key": "entity"}, bounds={"pending": 2})
NOW = datetime(2024, 1, 1, tzinfo=UTC)
HERE = state_partition(SETTINGS, "a", 4)


def pending(number: int, due: datetime | None = None) -> Pending:
    return Pending(id=f"{number}", time=NOW, made_at=NOW, forecast=Answer(value=1.0), due=due)


def codes(state: EntityState, value: bytes | None = None, *, partition: int = HERE, settings: Settings = SETTINGS) -> list[tuple[str, str]]:
    record = encode_state(state, settings.entity_ttl) if value is None else value
    remarks = examine(entity_key(state.entity), record, partition, settings, 4).remarks
    assert all(remark.text.endswith(".") and remark.advice for remark in remarks)
    return [(remark.level, remark.code) for remark in remarks]


def with_header_of(state: EntityState, other: EntityState) -> bytes:
    return encode_state(other)[:HEADER_SIZE] + encode_state(state)[HEADER_SIZE:]


def test_a_state_as_workers_write_it_is_sound() -> None:
    state = EntityState(
        entity="a",
        applied={"observations": 3, "truths/7": 12},
        pending=(pending(1, NOW), pending(2)),
        feedback=(Feedback(seq=1, text="x"),),
        touched_at=NOW,
    )
    assert codes(state) == []
    assert codes(EntityState(entity="a", forgotten=True, applied={"observations": 3})) == []


@pytest.mark.parametrize("written_with", [None, timedelta(days=1), timedelta(days=400)])
def test_a_due_time_from_any_entity_ttl_is_sound_whatever_the_setting_is_now(written_with: timedelta | None) -> None:
    settings = Settings(observations={"key": "entity"}, entity_ttl=timedelta(days=30))
    idle = EntityState(entity="a", touched_at=NOW)
    waiting = EntityState(entity="a", touched_at=NOW, pending=(pending(1, NOW + timedelta(days=2)),))
    for state in (idle, waiting):
        assert codes(state, encode_state(state, written_with), settings=settings) == []


def test_a_header_that_is_due_too_late_or_never_is_a_fault() -> None:
    state = EntityState(entity="a", touched_at=NOW, pending=(pending(1, NOW + timedelta(hours=1)),))
    late = EntityState(entity="a", pending=(pending(1, NOW + timedelta(hours=2)),))
    assert codes(state, with_header_of(state, late)) == [("fail", "due")]
    assert codes(state, with_header_of(state, EntityState(entity="a"))) == [("fail", "due")]
    fed = EntityState(entity="a", feedback=(Feedback(seq=1, text="x"),))
    assert codes(fed, with_header_of(fed, EntityState(entity="a"))) == [("fail", "header")]


def test_an_entity_on_a_partition_that_is_not_its_own_is_a_fault() -> None:
    assert codes(EntityState(entity="a"), partition=(HERE + 1) % 4) == [("fail", "misplaced")]


def test_a_state_over_a_bound_is_told_and_is_no_fault() -> None:
    state = EntityState(entity="a", pending=tuple(pending(n) for n in range(3)))
    assert codes(state) == [("warn", "bounds")]
    large = EntityState(entity="a", early=(), feedback=(Feedback(seq=1, text="x" * 2 * SETTINGS.bounds.record),))
    assert codes(large) == [("warn", "bounds")]


@pytest.mark.parametrize("name", ["observation", "observations/", "observations/x", "predictions/1", ""])
def test_an_offset_of_something_that_is_no_input_is_a_fault(name: str) -> None:
    assert codes(EntityState(entity="a", applied={name: 1})) == [("fail", "position")]


def test_a_record_that_cannot_be_read_is_a_fault_and_knows_of_no_offsets() -> None:
    examined = examine(b"ea", b"junk", 0, SETTINGS, 4)
    assert [(remark.level, remark.code) for remark in examined.remarks] == [("fail", "schema")]
    assert examined.applied == {}


def test_offsets_are_told_by_the_inputs_own_partitions() -> None:
    state = EntityState(entity="a", applied={"observations": 3, "truths/7": 12, "commands/0": 1})
    assert examine(entity_key("a"), encode_state(state), 2, SETTINGS, 4).applied == {
        TopicPartition("observations", 2): 3,
        TopicPartition("truths", 7): 12,
        TopicPartition("commands", 0): 1,
    }
    own = PartitionState(dead_lettered={"truths/7": 12, "observations": 4}, settled={"truths/7": 15})
    assert examine(PARTITION_KEY, encode(own), 2, SETTINGS, 4).applied == {
        TopicPartition("observations", 2): 4,
        TopicPartition("truths", 7): 15,
    }


def test_offsets_of_an_input_that_is_not_read_any_more_do_not_count() -> None:
    settings = Settings(truths={"source": "next-observation"})
    examined = examine(entity_key("a"), encode_state(EntityState(entity="a", applied={"truths/7": 12})), HERE, settings, 4)
    assert (examined.remarks, examined.applied) == ([], {})
