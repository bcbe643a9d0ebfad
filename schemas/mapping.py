"""From somebody's payload to our messages, by dotted paths, so that an existing topic is consumed as it is.

Every way in which a record can be unusable ends in a `DecodeError` whose `reason` is one of `REASONS`; the caller dead-letters
the record under it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from schemas.codec import DecodeError, decode_object
from schemas.messages import ENTITY_LIMIT, TEXT_LIMIT, Command, Observation, Scalar, Truth, Value
from schemas.settings import InputSettings, Settings, TargetSettings
from schemas.times import parse_time

#: Every reason a dead letter can have, for pre-created metric labels and for the README's table.
REASONS: dict[str, str] = {
    "not-utf8": "the value is not UTF-8",
    "not-json": "the value is not JSON",
    "not-object": "the JSON is not an object",
    "not-finite": "a number is infinite or NaN",
    "too-deep": "the JSON is nested too deeply",
    "missing-entity": "no entity at the mapped path",
    "bad-entity": "the entity is empty, too long or no text",
    "missing-time": "no time at the mapped path",
    "bad-time": "the time cannot be read, or lies outside the years 1 to 9999",
    "future-time": "the time lies further ahead than max_future",
    "bad-id": "the id is empty, too long or no text",
    "wrong-type": "a mapped field has a type it cannot have",
    "text-too-long": "a mapped text is longer than bounds.text",
    "missing-target": "a truth without a value",
    "out-of-range": "a number outside target.range",
    "unknown-label": "a label that target.labels does not have",
    "no-match": "a truth names neither an observation nor a target time",
    "invalid": "a field breaks the message's schema",
    "unsupported-schema": "schema_version is one this program does not read",
    "wrong-partition": "the key's partitioner does not give the partition the record came from",
    "orphan": "a truth that matched no prediction in its waiting time",
    "too-large": "the record this input leads to is larger than the topic takes",
    "failed": "the record made the program fail; a defect, please report it",
}

_ABSENT = object()
_M = TypeVar("_M", bound=BaseModel)


class Record(NamedTuple):
    """What Kafka delivered, without Kafka: bytes, and where they stood. `timestamp` is in ms since the epoch."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes


def lookup(payload: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path, or `_ABSENT`. A key that itself holds dots wins over the walk."""
    if path in payload:
        return payload[path]
    value: Any = payload
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _ABSENT
        value = value[part]
    return value


def read_entity(record: Record, settings: InputSettings, payload: Mapping[str, Any] | None = None) -> str:
    """The entity that a record belongs to; all that re-keying needs to read.

    Raises
    ------
    DecodeError
        The value cannot be decoded, or holds no usable entity.
    """
    if settings.entity == "@key":
        if record.key is None:
            raise DecodeError("missing-entity", "the record has no key")
        try:
            raw: Any = record.key.decode("utf-8")
        except UnicodeDecodeError:
            raise DecodeError("bad-entity", "the key is not UTF-8") from None
    else:
        raw = lookup(payload if payload is not None else decode_object(record.value), settings.entity)
    if raw is _ABSENT or raw is None:
        raise DecodeError("missing-entity", f"nothing at {settings.entity!r}")
    if isinstance(raw, int) and not isinstance(raw, bool):
        raw = str(raw)
    if not isinstance(raw, str) or not raw or len(raw) > ENTITY_LIMIT:
        raise DecodeError("bad-entity", f"{settings.entity!r} must be a text of 1 to {ENTITY_LIMIT} characters or a whole number")
    return raw


def read_observation(record: Record, settings: Settings, now: datetime) -> Observation:
    """Decode and map one observation.

    Parameters
    ----------
    now
        The clock against which `max_future` is held; ignored in replay.
    """
    mapping = settings.observations
    payload = _payload(record)
    entity = read_entity(record, mapping, payload)
    time = _time(payload, mapping.time, record, settings, now)
    values, used = _values(payload, settings)
    target = values.get(settings.target.field)
    if target is not None and settings.truths.source == "next-observation":
        check_value(target, settings.target, settings.bounds.text)
    raw_id = lookup(payload, mapping.id)
    used |= {mapping.entity.split(".")[0], mapping.time.split(".")[0], mapping.id.split(".")[0], "schema_version"}
    identity = _identity(raw_id, mapping.id) or f"{entity}@{time.isoformat()}"[:ENTITY_LIMIT]
    extra = {k: v for k, v in payload.items() if k not in used}
    return _build(Observation, entity=entity, id=identity, time=time, values=values, extra=extra)


def read_truth(record: Record, settings: Settings, now: datetime) -> Truth:
    """Decode and map one ground truth of the `truths` topic.

    Parameters
    ----------
    now
        The clock against which `max_future` is held; ignored in replay. A target time may lie further ahead by the target's horizon.
    """
    mapping = settings.truths
    payload = _payload(record)
    entity = read_entity(record, mapping, payload)
    value = lookup(payload, mapping.value)
    if value is _ABSENT or value is None:
        raise DecodeError("missing-target", f"nothing at {mapping.value!r}")
    checked = check_value(value, settings.target, settings.bounds.text)
    observation_id = _identity(lookup(payload, mapping.observation_id), mapping.observation_id)
    raw_target = lookup(payload, mapping.target_time)
    target_time = None if raw_target is _ABSENT or raw_target is None else _parse(raw_target, mapping.target_time)
    if observation_id is None and target_time is None:
        raise DecodeError("no-match", f"nothing at {mapping.observation_id!r} nor at {mapping.target_time!r}")
    raw_time = lookup(payload, mapping.time)
    time = None if raw_time is _ABSENT or raw_time is None else _parse(raw_time, mapping.time)
    if time is not None:
        _check_ahead(time, settings, now)
    if target_time is not None:
        horizon = settings.target.horizon
        _check_ahead(target_time, settings, now, horizon=horizon if isinstance(horizon, timedelta) else timedelta(0))
    note = lookup(payload, mapping.note)
    if note is not _ABSENT and note is not None and not isinstance(note, str):
        raise DecodeError("wrong-type", f"{mapping.note!r} must be a text")
    note = note[: min(settings.bounds.text, TEXT_LIMIT)] if isinstance(note, str) else ""
    return _build(Truth, entity=entity, observation_id=observation_id, target_time=target_time, value=checked, note=note, time=time)


def read_command(record: Record, settings: Settings) -> Command:
    """Decode one command; its payload is ours and is not mapped."""
    payload = _payload(record)
    entity = read_entity(record, settings.commands, payload)
    named = payload.get("entity", entity)
    if str(named) != entity:
        # It would be applied where another entity's records are.
        raise DecodeError("bad-entity", f"the command is for {str(named)[:60]!r}, {settings.commands.entity!r} says {entity[:60]!r}")
    return _build(Command, **{**payload, "entity": entity})


def check_value(value: Any, target: TargetSettings, text_limit: int) -> Value:
    """Hold a target's value against its kind, range and labels."""
    if target.kind == "number":
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise DecodeError("wrong-type", f"the target is a number, this is {type(value).__name__}")
        number = float(value)
        if not math.isfinite(number):
            raise DecodeError("not-finite", "the target is infinite or NaN")
        if target.range is not None and not target.range[0] <= number <= target.range[1]:
            raise DecodeError("out-of-range", f"{number} lies outside {list(target.range)}")
        return number
    if not isinstance(value, str):
        raise DecodeError("wrong-type", f"the target is a text, this is {type(value).__name__}")
    if target.kind == "category" and value not in target.labels:
        raise DecodeError("unknown-label", f"{value[:60]!r} is none of {', '.join(target.labels)}")
    if len(value) > text_limit:
        raise DecodeError("text-too-long", f"{len(value)} characters, at most {text_limit}")
    return value


def content_digest(observation: Observation) -> str:
    """Tells two observations of the same id apart: equal content, equal digest."""
    content = orjson.dumps([observation.time, observation.values], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(content).hexdigest()[:12]


def _payload(record: Record) -> dict[str, Any]:
    payload = decode_object(record.value)
    version = payload.get("schema_version", 1)
    if version != 1 and isinstance(version, int):
        raise DecodeError("unsupported-schema", f"schema_version {version}, this program reads 1")
    return payload


def _values(payload: dict[str, Any], settings: Settings) -> tuple[dict[str, Scalar], set[str]]:
    mapping = settings.observations
    values: dict[str, Scalar] = {}
    if mapping.values:
        for name, path in mapping.values.items():
            raw = lookup(payload, path)
            if raw is _ABSENT or raw is None:
                continue
            values[name] = _scalar(raw, path, settings.bounds.text)
        return values, {path.split(".")[0] for path in mapping.values.values()}
    nested = lookup(payload, mapping.values_at)
    if isinstance(nested, Mapping):
        for name, raw in nested.items():
            if raw is not None:
                values[name] = _scalar(raw, f"{mapping.values_at}.{name}", settings.bounds.text)
        return values, {mapping.values_at.split(".")[0]}
    if nested is not _ABSENT and nested is not None:
        raise DecodeError("wrong-type", f"{mapping.values_at!r} must be an object")
    reserved = {mapping.entity.split(".")[0], mapping.time.split(".")[0], mapping.id, "schema_version"}
    for name, raw in payload.items():
        if name not in reserved and isinstance(raw, bool | int | float | str):
            values[name] = _scalar(raw, name, settings.bounds.text)
    return values, set(values)


def _scalar(raw: Any, path: str, text_limit: int) -> Scalar:
    if isinstance(raw, str):
        if len(raw) > text_limit:
            raise DecodeError("text-too-long", f"{path!r} has {len(raw)} characters, at most {text_limit}")
        return raw
    if isinstance(raw, bool | int | float):
        return raw
    raise DecodeError("wrong-type", f"{path!r} must be a number, a text or a flag, this is {type(raw).__name__}")


def _identity(raw: Any, path: str) -> str | None:
    if raw is _ABSENT or raw is None:
        return None
    if isinstance(raw, int) and not isinstance(raw, bool):
        raw = str(raw)
    if not isinstance(raw, str) or not raw or len(raw) > ENTITY_LIMIT:
        raise DecodeError("bad-id", f"{path!r} must be a text of 1 to {ENTITY_LIMIT} characters or a whole number")
    return raw


def _time(payload: dict[str, Any], path: str, record: Record, settings: Settings, now: datetime) -> datetime:
    if path == "@timestamp":
        # Whoever produced the record chose it; it may be none (-1) or nonsense.
        if record.timestamp < 0:
            raise DecodeError("missing-time", "the record has no timestamp")
        try:
            time = datetime.fromtimestamp(record.timestamp / 1000, UTC)
        except (ValueError, OverflowError, OSError):
            raise DecodeError("bad-time", f"the record's timestamp {record.timestamp} is out of range") from None
    else:
        raw = lookup(payload, path)
        if raw is _ABSENT or raw is None:
            raise DecodeError("missing-time", f"nothing at {path!r}")
        time = _parse(raw, path)
    _check_ahead(time, settings, now)
    horizon = settings.target.horizon
    if isinstance(horizon, timedelta) and time.year > 9000:
        raise DecodeError("bad-time", f"{time.isoformat()} leaves no room for a target time")
    return time


def _check_ahead(time: datetime, settings: Settings, now: datetime, *, horizon: timedelta = timedelta(0)) -> None:
    # What the times leave between them is compared: a sum with a long duration could lie beyond the last year there is.
    if settings.time == "live" and time - now - settings.max_future > horizon:
        raise DecodeError("future-time", f"{time.isoformat()} is more than {settings.max_future + horizon} ahead")


def _parse(raw: Any, path: str) -> datetime:
    try:
        return parse_time(raw)
    except ValueError as error:
        raise DecodeError("bad-time", f"{path!r}: {error}") from None


def _build(model: type[_M], /, **fields: Any) -> _M:
    try:
        return model(**fields)
    except (ValidationError, TypeError) as error:
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            detail = f"{'.'.join(str(p) for p in first['loc']) or 'message'}: {first['msg']}"
        else:
            detail = str(error)
        raise DecodeError("invalid", detail) from None
