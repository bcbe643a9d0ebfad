"""Bytes to messages and back: what is refused, and that equal values give equal bytes."""

from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import MAX_DEPTH, DecodeError, decode_object, encode
from schemas.messages import Answer, Observation, Prediction

NOW = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"\xff\xfe", "not-utf8"),
        (b'{"a":"\xc3"}', "not-utf8"),
        (b"", "not-json"),
        (b"{", "not-json"),
        (b"{'a': 1}", "not-json"),
        (b'{"a": NaN}', "not-json"),
        (b'{"a": Infinity}', "not-json"),
        (b'{"a": 01}', "not-json"),
        (b'{"a": "\\ud800"}', "not-json"),
        (b"[1]", "not-object"),
        (b"1", "not-object"),
        (b"null", "not-object"),
        (b'"text"', "not-object"),
        (b'{"a": 1e999}', "not-finite"),
        (b'{"a": [1, {"b": -1e999}]}', "not-finite"),
        (b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}", "too-deep"),
        (b'{"a":' * 2_000 + b"1" + b"}" * 2_000, "too-deep"),
    ],
)
def test_bytes_that_are_no_message_are_refused_with_a_reason(raw: bytes, reason: str) -> None:
    with pytest.raises(DecodeError) as refused:
        decode_object(raw)
    assert refused.value.reason == reason
    assert refused.value.detail


def test_nesting_is_taken_up_to_the_limit_and_refused_above_it() -> None:
    def nested(levels: int) -> bytes:
        return b'{"a":' * levels + b"1" + b"}" * levels

    assert decode_object(nested(MAX_DEPTH))
    with pytest.raises(DecodeError, match="too-deep"):
        decode_object(nested(MAX_DEPTH + 2))


@given(st.binary(max_size=200))
def test_no_bytes_make_decoding_fail_otherwise(raw: bytes) -> None:
    try:
        assert isinstance(decode_object(raw), dict)
    except DecodeError as error:
        assert error.reason in {"not-utf8", "not-json", "not-object", "not-finite", "too-deep"}


def test_empty_fields_are_left_out_and_the_schema_version_never_is() -> None:
    raw = encode(Observation(entity="a", id="1", time=NOW, values={"t": 1.5}))
    assert orjson.loads(raw) == {"schema_version": 1, "entity": "a", "id": "1", "time": "2024-01-01T00:00:00Z", "values": {"t": 1.5}}


def test_equal_messages_give_equal_bytes_however_they_were_built() -> None:
    plain = Prediction(
        entity="a", id="1", kind="number", time=NOW, made_at=NOW, forecast=Answer(value=1.0), source="model", memory_revision=0
    )
    spelt_out = plain.model_copy(update={"flags": (), "experts": {}, "model": None, "target_time": None})
    assert encode(plain) == encode(spelt_out) == encode(Prediction.model_validate_json(encode(plain)))
