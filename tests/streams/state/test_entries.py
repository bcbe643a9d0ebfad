"""What a record of the changelog says, and why it cannot be read."""

import pytest

from schemas.codec import encode
from schemas.state import PARTITION_KEY, EntityState, PartitionState, encode_state, entity_key
from streams.state.entries import BadRecord, decode_entry

STATE = EntityState(entity="ä/1", applied={"truths/3": 7})


def test_a_state_comes_back_whole_from_its_key_and_value() -> None:
    assert decode_entry(entity_key("ä/1"), encode_state(STATE)) == STATE
    own = PartitionState(dead_lettered={"observations": 4})
    assert decode_entry(PARTITION_KEY, encode(own)) == own


@pytest.mark.parametrize(
    ("key", "value", "code", "text"),
    [
        (None, b"", "key", "another program"),
        (b"e", encode_state(STATE), "key", "another program"),
        (b"q1", b"{}", "key", "another program"),
        (b"ea", b"", "schema", "schema None"),
        (b"ea", b"\x09" + encode_state(STATE)[1:], "schema", "schema 9"),
        (b"ea", encode_state(STATE)[:20], "json", "no JSON"),
        (b"ea", encode_state(STATE)[:12] + b"[]", "fields", "the whole"),
        (b"ea", encode_state(STATE)[:12] + b'{"entity":"a","outcomes":-1,"x":1}', "fields", "outcomes: "),
        (entity_key("b"), encode_state(STATE), "entity", "'ä/1'"),
        (PARTITION_KEY, b"{", "json", "no JSON"),
        (PARTITION_KEY, b'{"settled":3}', "fields", "settled"),
    ],
)
def test_what_cannot_be_read_says_why(key: bytes | None, value: bytes, code: str, text: str) -> None:
    with pytest.raises(BadRecord, match=text) as caught:
        decode_entry(key, value)
    assert caught.value.code == code
