"""Kept states stand for their records and for nothing else."""

from __future__ import annotations

import pytest

from schemas.state import EntityState, UnknownSchema, encode_state, entity_key
from streams.states import States


def state_of(entity: str, outcomes: int = 0) -> tuple[bytes, bytes, EntityState]:
    state = EntityState(entity=entity, outcomes=outcomes)
    return entity_key(entity), encode_state(state), state


def test_a_record_that_was_written_here_is_not_decoded_again() -> None:
    states, (key, record, state) = States(), state_of("a")
    states.keep(key, record, state)
    assert states.decode(key, bytes(bytearray(record))) is state


def test_another_record_of_the_same_entity_is_decoded() -> None:
    states = States()
    states.keep(*state_of("a", 1))
    key, record, state = state_of("a", 2)
    found = states.decode(key, record)
    assert found == state
    assert states.decode(key, record) is found


def test_those_not_used_for_longest_make_room() -> None:
    _, record, _ = state_of("a")
    states = States(limit=2 * len(record))
    kept = {name: state_of(name) for name in "abc"}
    states.keep(*kept["a"])
    states.keep(*kept["b"])
    assert states.decode(*kept["a"][:2]) is kept["a"][2]
    states.keep(*kept["c"])
    assert states.size == 2 * len(record)
    assert states.decode(*kept["a"][:2]) is kept["a"][2]
    assert states.decode(*kept["b"][:2]) is not kept["b"][2]


def test_writing_an_entity_again_takes_no_further_room() -> None:
    states = States()
    for outcomes in range(100):
        key, record, state = state_of("a", outcomes)
        states.keep(key, record, state)
    assert states.size == len(record)


def test_what_cannot_be_decoded_is_not_kept() -> None:
    states = States()
    with pytest.raises(UnknownSchema):
        states.decode(b"ea", b"\x63")
    assert states.size == 0
