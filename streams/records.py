"""One input record inside the shell: where it came from, and what it says or why it cannot be read.

A record of a re-keyed input (`streams.rekey`) carries its source's coordinates in headers; they, not the internal topic's, name it
everywhere: in its applied offset, in its dead letter and in logs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from faust.types import TP

from schemas.codec import DecodeError
from schemas.mapping import Record, read_command, read_entity, read_observation, read_truth
from schemas.messages import Command, Observation, Truth
from schemas.settings import InputSettings, Settings
from streams.partitioner import partition_of
from streams.positions import Entry, Tracker

Role = Literal["observations", "truths", "commands"]

#: Characters of a trace header that are carried through; W3C's has 55.
TRACE_LIMIT = 128

#: Headers of a re-keyed record: `topic//partition/offset/timestamp`, decimal.
SOURCE_HEADER = "palimpsest-source"
#: Its key, where it had one.
SOURCE_KEY_HEADER = "palimpsest-source-key"
#: Size and SHA-256 of a value that was too large to be sent on whole.
OVERSIZE_HEADER = "palimpsest-oversize"


@dataclass(slots=True)
class Item:
    """A delivered record on its way through the shell."""

    role: Role
    #: Where Faust delivered it from; its partition is the one of the state.
    tp: TP
    record: Record
    #: Name under which its offset is remembered as applied: `observations`, or `observations/3` for a re-keyed source partition.
    position: str
    entry: Entry
    tracker: Tracker
    trace: str = ""
    #: When the fetcher handed it over (monotonic seconds).
    taken_at: float = field(default_factory=time.monotonic)

    #: Size in bytes and SHA-256 of the whole value, where only its beginning was sent on.
    whole: tuple[int, str] | None = None

    @classmethod
    def from_message(cls, role: Role, tp: TP, message: Any, entry: Entry, tracker: Tracker, *, rekeyed: bool) -> Item:
        """`rekeyed`: the record stands in an internal topic, whose headers are ours; anybody may put headers on another's."""
        headers = _headers(message.headers)
        trace = headers.get("traceparent", b"").decode("ascii", "replace")[:TRACE_LIMIT]
        source = read_source(headers.get(SOURCE_HEADER, b"")) if rekeyed else None
        if source is None:
            record = Record(tp.topic, tp.partition, message.offset, timestamp_ms(message), message.key, message.value)
            return cls(role, tp, record, role, entry, tracker, trace)
        topic, partition, offset, timestamp = source
        record = Record(topic, partition, offset, timestamp, headers.get(SOURCE_KEY_HEADER), message.value)
        size, _, digest = headers.get(OVERSIZE_HEADER, b"").decode("ascii", "replace").partition("/")
        whole = (int(size), digest) if size.isdigit() else None
        return cls(role, tp, record, f"{role}/{partition}", entry, tracker, trace, whole=whole)


def read_source(header: bytes) -> tuple[str, int, int, int] | None:
    """Topic, partition, offset and timestamp of the record that a re-keyed one was; None where the header does not say.

    Examples
    --------
    >>> read_source(b"readings//3/17/1700000000000")
    ('readings', 3, 17, 1700000000000)
    """
    topic, _, place = header.decode("utf-8", "replace").partition("//")
    numbers = place.split("/")
    if len(numbers) != 3 or not all(number.lstrip("-").isdigit() for number in numbers):
        return None
    partition, offset, timestamp = map(int, numbers)
    return topic, partition, offset, timestamp


def timestamp_ms(message: Any) -> int:
    """Kafka's record timestamp, which Faust turns into seconds."""
    return round(message.timestamp * 1000)


def _headers(raw: Any) -> dict[str, bytes]:
    pairs = raw.items() if isinstance(raw, Mapping) else raw or ()
    return {name: value or b"" for name, value in pairs}


def input_settings(settings: Settings, role: Role) -> InputSettings:
    inputs: dict[Role, InputSettings] = {"observations": settings.observations, "truths": settings.truths, "commands": settings.commands}
    return inputs[role]


def decode(item: Item, settings: Settings, partitions: int, now: datetime) -> Observation | Truth | Command:
    """Decode and map an item, and check that its entity belongs where the record stood.

    Raises
    ------
    DecodeError
        The record belongs to the dead letters.
    """
    if item.whole is not None:
        raise DecodeError("too-large", f"{item.whole[0]} bytes, more than the topic of records by entity takes")
    mapping = input_settings(settings, item.role)
    message: Observation | Truth | Command
    if item.role == "observations":
        message = read_observation(item.record, settings, now)
    elif item.role == "truths":
        message = read_truth(item.record, settings, now)
    else:
        message = read_command(item.record, settings)
    if mapping.key == "entity":
        wanted = partition_of(message.entity.encode(), partitions, mapping.partitioner)
        if wanted != item.tp.partition:
            detail = f"the {mapping.partitioner} partitioner puts this entity on partition {wanted}, it came from {item.tp.partition}"
            raise DecodeError("wrong-partition", detail)
    return message


def entity_of(record: Record, settings: Settings, role: Role) -> str | None:
    """The entity that a record is re-keyed by; None where it has none that can be read."""
    try:
        return read_entity(record, input_settings(settings, role))
    except DecodeError:
        return None
