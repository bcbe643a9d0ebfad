"""From foreign payloads to our messages: what is read, and under which reason everything else ends."""

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import DecodeError
from schemas.mapping import REASONS, Record, content_digest, lookup, read_command, read_entity, read_observation, read_truth
from schemas.messages import ENTITY_LIMIT, TEXT_LIMIT
from schemas.settings import BoundSettings, InputSettings, Settings

NOW = datetime(2024, 1, 1, 12, tzinfo=UTC)
MILLIS = int(NOW.timestamp() * 1000)

FOREIGN = Settings(
    observations={"entity": "sensor.id", "time": "ts", "values": {"temperature": "t", "wind": "extras.wind"}},
    truths={"source": "next-observation"},
    target={"field": "temperature", "range": (-50, 60)},
)
WEATHER = Settings(target={"field": "weather", "kind": "category", "labels": ("sun", "rain")})
DAILY = WEATHER.model_copy(update={"target": WEATHER.target.model_copy(update={"horizon": timedelta(days=1)})})
HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
GOOD = {"entity": "a", "time": "2024-01-01T11:00:00Z", "values": {"t": 1.5}}


def record(payload: Any, *, key: bytes | None = None, timestamp: int = MILLIS) -> Record:
    raw = payload if isinstance(payload, bytes) else orjson.dumps(payload)
    return Record("readings", 0, 7, timestamp, key, raw)


def observation_fault(payload: Any, settings: Settings = FOREIGN, **about: Any) -> str:
    with pytest.raises(DecodeError) as refused:
        read_observation(record(payload, **about), settings, NOW)
    assert refused.value.reason in REASONS
    assert refused.value.detail
    return refused.value.reason


def test_a_foreign_payload_is_read_by_dotted_paths_and_the_rest_is_kept() -> None:
    payload = {"sensor": {"id": "s-1", "site": "x"}, "ts": MILLIS, "t": 21.4, "extras": {"wind": "north"}, "battery": 3.1}
    observation = read_observation(record(payload), FOREIGN, NOW)
    assert observation.entity == "s-1"
    assert observation.time == NOW
    assert observation.values == {"temperature": 21.4, "wind": "north"}
    assert observation.extra == {"battery": 3.1}
    assert observation.id == "s-1@2024-01-01T12:00:00+00:00"


def test_our_own_form_needs_no_mapping() -> None:
    observation = read_observation(record({**GOOD, "schema_version": 1, "id": 17}), Settings(), NOW)
    assert (observation.entity, observation.id, observation.values) == ("a", "17", {"t": 1.5})


def test_of_a_flat_payload_all_other_numbers_texts_and_flags_are_values() -> None:
    payload = {"entity": 7, "time": MILLIS, "t": 1, "label": "x", "open": True, "nested": {"a": 1}, "none": None}
    observation = read_observation(record(payload), Settings(), NOW)
    assert observation.entity == "7"
    assert observation.values == {"t": 1, "label": "x", "open": True}
    assert observation.extra == {"nested": {"a": 1}, "none": None}


def test_a_key_with_dots_in_its_name_wins_over_the_walk() -> None:
    assert lookup({"a.b": 1, "a": {"b": 2}}, "a.b") == 1
    assert lookup({"a": {"b": 2}}, "a.b") == 2


def test_entity_and_time_may_come_from_key_and_timestamp() -> None:
    settings = Settings(observations={"entity": "@key", "time": "@timestamp"})
    observation = read_observation(record({"t": 1.0}, key=b"s-9"), settings, NOW)
    assert (observation.entity, observation.time, observation.values) == ("s-9", NOW, {"t": 1.0})


def test_null_or_absent_values_are_left_out() -> None:
    payload = {"sensor": {"id": "a"}, "ts": MILLIS, "t": None}
    assert read_observation(record(payload), FOREIGN, NOW).values == {}


PLACED = {"sensor": {"id": "a"}, "ts": MILLIS, "t": 21.4}

MALFORMED_OBSERVATIONS: dict[str, tuple[Any, str]] = {
    "bytes of a picture": (b"\x89PNG\r\n\xff", "not-utf8"),
    "an empty value": (b"", "not-json"),
    "cut off": (b'{"sensor":', "not-json"),
    "XML": (b"<reading/>", "not-json"),
    "Python's NaN": (b'{"sensor":{"id":"a"},"ts":1,"t":NaN}', "not-json"),
    "a list": ([PLACED], "not-object"),
    "a number above all doubles": (b'{"sensor":{"id":"a"},"ts":1,"t":1e999}', "not-finite"),
    "a whole number of 400 digits": (b'{"sensor":{"id":"a"},"ts":1,"t":1' + b"0" * 400 + b"}", "not-finite"),
    "nested 10 000 deep": (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "too-deep"),
    "nested 100 deep": (b'{"a":' * 100 + b"1" + b"}" * 100, "too-deep"),
    "no entity": ({"ts": MILLIS, "t": 1}, "missing-entity"),
    "a text where the entity's object should be": ({"sensor": "a", "ts": MILLIS}, "missing-entity"),
    "entity null": ({**PLACED, "sensor": {"id": None}}, "missing-entity"),
    "entity empty": ({**PLACED, "sensor": {"id": ""}}, "bad-entity"),
    "entity a flag": ({**PLACED, "sensor": {"id": True}}, "bad-entity"),
    "entity a fraction": ({**PLACED, "sensor": {"id": 1.5}}, "bad-entity"),
    "entity an object": ({**PLACED, "sensor": {"id": {}}}, "bad-entity"),
    "entity too long": ({**PLACED, "sensor": {"id": "x" * (ENTITY_LIMIT + 1)}}, "bad-entity"),
    "no time": ({"sensor": {"id": "a"}, "t": 1}, "missing-time"),
    "time null": ({**PLACED, "ts": None}, "missing-time"),
    "time in words": ({**PLACED, "ts": "yesterday"}, "bad-time"),
    "time without an offset": ({**PLACED, "ts": "2024-01-01T00:00:00"}, "bad-time"),
    "time in the year 99999": ({**PLACED, "ts": "99999-01-01T00:00:00Z"}, "bad-time"),
    "time in nanoseconds": ({**PLACED, "ts": 1_690_000_000_123_000_000}, "bad-time"),
    "time a flag": ({**PLACED, "ts": True}, "bad-time"),
    "time a list": ({**PLACED, "ts": [2024, 1, 1]}, "bad-time"),
    "time far ahead": ({**PLACED, "ts": "2030-01-01T00:00:00Z"}, "future-time"),
    "a value that is an object": ({**PLACED, "t": {"celsius": 1}}, "wrong-type"),
    "a value that is a list": ({**PLACED, "t": [1]}, "wrong-type"),
    "a target in words": ({**PLACED, "t": "warm"}, "wrong-type"),
    "a target that is a flag": ({**PLACED, "t": True}, "wrong-type"),
    "a target out of range": ({**PLACED, "t": 9_999}, "out-of-range"),
    "a text just under the topic's limit": ({**PLACED, "extras": {"wind": "x" * 1_000_000}}, "text-too-long"),
    "id an object": ({**PLACED, "id": {}}, "bad-id"),
    "id empty": ({**PLACED, "id": ""}, "bad-id"),
    "id too long": ({**PLACED, "id": "x" * 300}, "bad-id"),
    "a schema of tomorrow": ({**PLACED, "schema_version": 2}, "unsupported-schema"),
}


@pytest.mark.parametrize(("payload", "reason"), MALFORMED_OBSERVATIONS.values(), ids=list(MALFORMED_OBSERVATIONS))
def test_a_malformed_observation_ends_under_its_reason(payload: Any, reason: str) -> None:
    assert observation_fault(payload) == reason


def test_values_that_are_no_object_are_refused() -> None:
    assert observation_fault({**GOOD, "values": [1, 2]}, Settings()) == "wrong-type"
    assert observation_fault({**GOOD, "values": {"a": {"b": 1}}}, Settings()) == "wrong-type"


def test_a_label_that_is_not_known_is_refused_where_observations_carry_the_truth() -> None:
    settings = WEATHER.model_copy(update={"truths": WEATHER.truths.model_copy(update={"source": "next-observation"})})
    assert observation_fault({**GOOD, "values": {"weather": "snow"}}, settings) == "unknown-label"
    assert read_observation(record({**GOOD, "values": {"weather": "snow"}}), WEATHER, NOW).values == {"weather": "snow"}


@pytest.mark.parametrize(
    ("key", "reason"), [(None, "missing-entity"), (b"", "bad-entity"), (b"\xff", "bad-entity"), (b"x" * 300, "bad-entity")]
)
def test_a_key_that_is_no_entity_is_refused(key: bytes | None, reason: str) -> None:
    with pytest.raises(DecodeError) as refused:
        read_entity(record({}, key=key), InputSettings(entity="@key"))
    assert refused.value.reason == reason


@pytest.mark.parametrize(("timestamp", "reason"), [(-1, "missing-time"), (10**17, "bad-time"), (2**63 - 1, "bad-time")])
def test_a_record_timestamp_that_is_none_is_refused(timestamp: int, reason: str) -> None:
    settings = Settings(observations={"time": "@timestamp"})
    assert observation_fault({"entity": "a", "t": 1}, settings, timestamp=timestamp) == reason


def test_in_replay_no_time_is_too_far_ahead_but_a_target_time_must_exist() -> None:
    replay = Settings(time="replay", target={"horizon": timedelta(days=1)})
    assert read_observation(record({**GOOD, "time": "2100-01-01T00:00:00Z"}), replay, NOW).time.year == 2100
    assert observation_fault({**GOOD, "time": "9999-12-31T00:00:00Z"}, replay) == "bad-time"


TRUTH = {"entity": "a", "observation_id": "1", "value": "sun"}

MALFORMED_TRUTHS: dict[str, tuple[Any, str]] = {
    "no value": ({"entity": "a", "observation_id": "1"}, "missing-target"),
    "value null": ({**TRUTH, "value": None}, "missing-target"),
    "value a number": ({**TRUTH, "value": 3}, "wrong-type"),
    "value a list": ({**TRUTH, "value": ["sun"]}, "wrong-type"),
    "an unknown label": ({**TRUTH, "value": "snow"}, "unknown-label"),
    "about nothing": ({"entity": "a", "value": "sun"}, "no-match"),
    "observation's id a list": ({**TRUTH, "observation_id": [1]}, "bad-id"),
    "target time in words": ({"entity": "a", "value": "sun", "target_time": "tomorrow"}, "bad-time"),
    "time in words": ({**TRUTH, "time": "now"}, "bad-time"),
    "a note that is no text": ({**TRUTH, "note": 5}, "wrong-type"),
    "no entity": ({"observation_id": "1", "value": "sun"}, "missing-entity"),
}


@pytest.mark.parametrize(("payload", "reason"), MALFORMED_TRUTHS.values(), ids=list(MALFORMED_TRUTHS))
def test_a_malformed_truth_ends_under_its_reason(payload: Any, reason: str) -> None:
    with pytest.raises(DecodeError) as refused:
        read_truth(record(payload), WEATHER, NOW)
    assert refused.value.reason == reason


def test_a_truth_names_its_prediction_by_id_or_by_target_time() -> None:
    assert read_truth(record({**TRUTH, "observation_id": 5}), WEATHER, NOW).observation_id == "5"
    payload = {"entity": "a", "value": "rain", "target_time": "2024-01-02T00:00:00Z", "note": "x" * 5_000}
    by_time = read_truth(record(payload), DAILY, NOW)
    assert by_time.target_time == datetime(2024, 1, 2, tzinfo=UTC)
    assert len(by_time.note) == WEATHER.bounds.text


def test_a_note_is_cut_to_what_a_truth_may_hold_however_long_texts_may_be() -> None:
    roomy = WEATHER.model_copy(update={"bounds": BoundSettings(text=20_000)})
    assert len(read_truth(record({**TRUTH, "note": "x" * 5_000}), roomy, NOW).note) == TEXT_LIMIT


@pytest.mark.parametrize(
    ("settings", "times", "refused"),
    [
        (WEATHER, {"time": NOW + HOUR}, False),
        (WEATHER, {"time": NOW + HOUR + SECOND}, True),
        (WEATHER, {"target_time": NOW + HOUR}, False),
        (WEATHER, {"target_time": NOW + HOUR + SECOND}, True),
        (DAILY, {"target_time": NOW + 25 * HOUR}, False),
        (DAILY, {"target_time": NOW + 25 * HOUR + SECOND}, True),
        (DAILY, {"time": NOW + 25 * HOUR}, True),
        (WEATHER.model_copy(update={"time": "replay"}), {"time": NOW + 9_999 * HOUR, "target_time": NOW + 9_999 * HOUR}, False),
        (
            WEATHER.model_copy(update={"target": WEATHER.target.model_copy(update={"horizon": timedelta.max})}),
            {"target_time": "9999-12-31T00:00:00Z"},
            False,
        ),
    ],
)
def test_a_truth_that_lies_too_far_ahead_is_refused_in_live_time(settings: Settings, times: dict[str, Any], refused: bool) -> None:
    payload = record({**TRUTH, **times})
    if not refused:
        assert read_truth(payload, settings, NOW).value == "sun"
        return
    with pytest.raises(DecodeError) as fault:
        read_truth(payload, settings, NOW)
    assert fault.value.reason == "future-time"


@pytest.mark.parametrize(
    "payload",
    [
        {"op": "explode", "by": "me"},
        {"op": "edit", "by": "me"},
        {"op": "rollback", "by": "me"},
        {"op": "freeze"},
        {"op": "freeze", "by": ""},
        {"op": "freeze", "by": "me", "force": True},
        {"op": "freeze", "by": "me", "model": "x"},
        {"op": "freeze", "by": "me", "revision": -1},
        {"op": "freeze", "by": "me", "schema_version": "1"},
    ],
)
def test_a_malformed_command_is_refused(payload: dict[str, Any]) -> None:
    with pytest.raises(DecodeError) as refused:
        read_command(record({"entity": "a", **payload}), Settings())
    assert refused.value.reason == "invalid"


def test_a_command_says_for_whom_it_is_or_leaves_it_to_its_key_but_never_both_differently() -> None:
    by_key = Settings(commands={"entity": "@key"})
    for entity in ({}, {"entity": "7"}, {"entity": 7}):
        assert read_command(record({"op": "thaw", "by": "me", **entity}, key=b"7"), by_key).entity == "7"
    assert read_command(record({"entity": 7, "op": "thaw", "by": "me"}), Settings()).entity == "7"
    with pytest.raises(DecodeError) as refused:
        read_command(record({"entity": "8", "op": "thaw", "by": "me"}, key=b"7"), by_key)
    assert refused.value.reason == "bad-entity"


def test_a_command_is_read_as_it_is() -> None:
    command = read_command(record({"entity": "a", "op": "rollback", "by": "me", "to_revision": 3}), Settings())
    assert (command.op, command.to_revision) == ("rollback", 3)


def test_equal_content_has_an_equal_digest_in_whatever_order_it_came() -> None:
    first = read_observation(record({**GOOD, "values": {"a": 1, "b": 2}}), Settings(), NOW)
    second = read_observation(record({**GOOD, "values": {"b": 2, "a": 1}, "more": 1}), Settings(), NOW)
    other = read_observation(record({**GOOD, "values": {"a": 1, "b": 3}}), Settings(), NOW)
    assert content_digest(first) == content_digest(second) != content_digest(other)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = (
    "entity",
    "sensor",
    "time",
    "ts",
    "t",
    "id",
    "values",
    "value",
    "observation_id",
    "target_time",
    "note",
    "op",
    "by",
    "model",
    "schema_version",
)


@given(st.dictionaries(st.sampled_from(NAMES), JSON), st.none() | st.binary(max_size=8), st.integers(-(2**63), 2**63 - 1))
def test_no_payload_ends_otherwise_than_in_a_message_or_a_known_reason(payload: dict[str, Any], key: bytes | None, timestamp: int) -> None:
    stamped = Settings(observations={"entity": "@key", "time": "@timestamp"})
    made = record(payload, key=key, timestamp=timestamp)
    for settings in (FOREIGN, WEATHER, stamped):
        for read, about in ((read_observation, (settings, NOW)), (read_truth, (settings, NOW)), (read_command, (settings,))):
            try:
                read(made, *about)  # type: ignore[operator]
            except DecodeError as error:
                assert error.reason in REASONS
