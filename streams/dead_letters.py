"""What becomes of a record that cannot be used: its raw bytes in `dead-letters`, with where it came from and why in headers.

`to_record` is what the worker writes; reading and replaying are for people, through the command line. A letter keeps the first
64 kB of a longer value, with size and digest of the whole, so that no bad record is too large to be kept; the whole one is read
again from its source when it is replayed, as long as that still holds it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from aiokafka.structs import TopicPartition

from schemas.mapping import Record
from schemas.messages import DeadLetter
from schemas.settings import KafkaSettings, Settings
from streams.cluster import describe
from streams.kafka import admin, consumer
from streams.reading import read_topic

PREFIX = "palimpsest-"
#: Bytes of a value that are kept: above it a letter would need a topic with larger records than its source.
KEPT = 65_536
#: Bytes of a key that are kept; no key that places a record by entity is longer.
KEY_KEPT = 4_096
#: Characters of the detail; it may quote the payload, which knows no bounds.
DETAIL_LIMIT = 500

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Headers = list[tuple[str, bytes]]


class NotADeadLetter(ValueError):
    """A record of the dead-letters topic without the headers that this program writes."""


class LetterRecord(NamedTuple):
    """A dead letter, ready to be produced."""

    key: bytes | None
    value: bytes
    headers: Headers


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter that was read.

    Attributes
    ----------
    partition, offset
        Where it stands in the dead-letters topic.
    written
        When it was written.
    about
        Why it is here, and where it came from.
    key, value
        Of the source record; the value cut to 64 kB where `about.truncated` says so.
    """

    partition: int
    offset: int
    written: datetime
    about: DeadLetter
    key: bytes | None
    value: bytes


def to_record(record: Record, reason: str, detail: str, *, whole: tuple[int, str] | None = None) -> LetterRecord:
    """Make the dead letter of a record. It never fails, whatever the record holds.

    Parameters
    ----------
    record
        What could not be used.
    reason
        One of `schemas.mapping.REASONS`.
    detail
        What exactly was wrong, for a person; cut to 500 characters.
    whole
        Size and SHA-256 of the whole value, where `record.value` is only its beginning.
    """
    size, digest = whole or (len(record.value), hashlib.sha256(record.value).hexdigest())
    fields = {
        "reason": reason,
        "detail": detail[:DETAIL_LIMIT],
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
        "size": str(size),
        "sha256": digest,
    }
    timestamp = _from_millis(record.timestamp)
    if timestamp is not None:
        fields["timestamp"] = timestamp.isoformat(timespec="milliseconds")
    if size > KEPT:
        fields["truncated"] = "true"
    # A detail can quote half of a surrogate pair, which has no UTF-8 form.
    headers = [(PREFIX + name, text.encode("utf-8", "replace")) for name, text in fields.items()]
    key = record.key
    if key is not None and len(key) > KEY_KEPT:
        key = key[:KEY_KEPT]
        headers.append((PREFIX + "key-truncated", b"true"))
    return LetterRecord(key, record.value[:KEPT], headers)


def from_headers(headers: Iterable[tuple[str, bytes]]) -> DeadLetter:
    """Read a dead letter's headers; headers of others are passed over.

    Raises
    ------
    NotADeadLetter
        A header is missing or unreadable.

    Examples
    --------
    >>> letter = to_record(Record("readings", 2, 41, 1690000000123, b"k", b"{"), "not-json", "unexpected end of data")
    >>> from_headers(letter.headers).reason, from_headers(letter.headers).offset
    ('not-json', 41)
    """
    found = {name.removeprefix(PREFIX): value.decode("utf-8", "replace") for name, value in headers if name.startswith(PREFIX)}
    known = {name: found[name] for name in DeadLetter.model_fields if name in found}
    try:
        return DeadLetter.model_validate(known)
    except ValueError as error:
        raise NotADeadLetter(f"no readable {PREFIX}* headers: {error}") from None


async def read_letters(settings: Settings, reasons: Collection[str] = ()) -> AsyncGenerator[Letter, None]:
    """Read the dead letters that are there now, by partition in order; with `reasons`, only those.

    Records that others wrote into the topic are passed over.

    Raises
    ------
    KafkaUnavailable, TopicsUnfit
        Kafka does not answer; the topic does not exist.
    """
    async with aclosing(read_topic(settings.kafka, settings.topics.dead_letters)) as records:
        async for record in records:
            try:
                about = from_headers(record.headers)
            except NotADeadLetter:
                continue
            if reasons and about.reason not in reasons:
                continue
            written = _from_millis(record.timestamp) or _EPOCH
            yield Letter(record.partition, record.offset, written, about, record.key, record.value or b"")


class Replayed(NamedTuple):
    """What `replay_letters` did: letters sent back by topic, and letters that could not be, with the cause."""

    sent: Counter[str]
    left: list[tuple[Letter, str]]


Send = Callable[[str, bytes | None, bytes], Awaitable[object]]
"""Produces topic, key and value; returns when the broker has it."""


async def replay_letters(settings: Settings, letters: AsyncIterator[Letter], send: Send, *, limit: int | None = None) -> Replayed:
    """Send letters back to the topics they came from, with their own keys and bytes.

    A letter stays in `dead-letters` afterwards: Kafka's log is not edited. What still cannot be used comes back as a new letter.

    Parameters
    ----------
    letters
        Which, from `read_letters`.
    send
        How to produce.
    limit
        At most so many.
    """
    done = Replayed(Counter(), [])
    there: dict[str, bool] = {}
    async for letter in letters:
        if limit is not None and done.sent.total() + len(done.left) >= limit:
            break
        about = letter.about
        if about.topic not in there:
            # A producer would wait for it until it times out.
            async with admin(settings.kafka) as client:
                there[about.topic] = bool(await describe(client, [about.topic]))
        value = await whole_value(settings.kafka, about) if about.truncated and there[about.topic] else letter.value
        if not there[about.topic]:
            done.left.append((letter, "its topic does not exist any more"))
        elif value is None:
            cause = f"only {KEPT} of {about.size} bytes were kept, and {about.topic} does not hold the record any more"
            done.left.append((letter, cause))
        else:
            await send(about.topic, letter.key, value)
            done.sent[about.topic] += 1
    return done


async def whole_value(settings: KafkaSettings, about: DeadLetter) -> bytes | None:
    """The value of a truncated letter's source record, or None if its topic holds it no more (or another in its place)."""
    partition = TopicPartition(about.topic, about.partition)
    async with consumer(settings, max_partition_fetch_bytes=about.size + KEPT, auto_offset_reset="none") as reader:
        starts, ends = await reader.beginning_offsets([partition]), await reader.end_offsets([partition])
        if not starts[partition] <= about.offset < ends[partition]:
            return None
        reader.assign([partition])
        reader.seek(partition, about.offset)
        record = await reader.getone(partition)
    value = bytes(record.value or b"")
    return value if record.offset == about.offset and hashlib.sha256(value).hexdigest() == about.sha256 else None


def _from_millis(timestamp: int) -> datetime | None:
    """Kafka's record timestamp; None for none (-1) and for what no calendar holds."""
    if timestamp < 0:
        return None
    try:
        return _EPOCH + timedelta(milliseconds=timestamp)
    except OverflowError:
        return None
