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

#: Headers of a re-keyed record: source topic, partition, offset, timestamp, as decimal text.
SOURCE_HEADER = "palimpsest-source"
#: Its key, where it had one.
SOURCE_KEY_HEADER = "palimpsest-source-key"


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

    @classmethod
    def from_message(cls, role: Role, tp: TP, message: Any, entry: Entry, tracker: Tracker) -> Item:
        headers = _headers(message.headers)
        trace = headers.get("traceparent", b"").decode("ascii", "replace")
        key, value = message.key, message.value
        source = headers.get(SOURCE_HEADER)
        if source is None:
            record = Record(tp.topic, tp.partition, message.offset, timestamp_ms(message), key, value)
            return cls(role, tp, record, role, entry, tracker, trace)
        topic, partition, offset, timestamp = source.decode().rsplit("/", 3)
        record = Record(topic, int(partition), int(offset), int(timestamp), headers.get(SOURCE_KEY_HEADER), value)
        return cls(role, tp, record, f"{role}/{partition}", entry, tracker, trace)


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
