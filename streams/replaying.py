"""Files into Kafka: CSV or JSON lines become observations (and truths), in the order of their times, at a speed.

A line's fields are sent as they are: the settings' mapping reads them, so a file in the form of a foreign topic needs nothing more.
Where a file names its entity or its time otherwise, or not at all, they are put where the mapping looks for them.

Records carry the time of sending as their timestamp, else retention deletes old data at once; event times stand in the payload.
"""

from __future__ import annotations

import asyncio
import csv
import heapq
import math
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson
from aiokafka.errors import MessageSizeTooLargeError

from schemas.codec import DecodeError, decode_object
from schemas.mapping import Record, lookup, read_entity
from schemas.settings import InputSettings, Settings
from schemas.times import parse_time
from streams.cluster import describe
from streams.errors import ReplayError, TopicsUnfit
from streams.findings import Finding
from streams.kafka import admin, producer
from streams.partitioner import partition_of

Role = Literal["observations", "truths"]

#: A CSV cell that is a number as a program writes it. `007` and `1_000` are none: codes stay texts.
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_INTEGER = re.compile(r"-?(0|[1-9]\d*)")
#: Digits above which a whole number would lose some as a float in most readers; it is rather an id.
_LONGEST_INTEGER = 15
#: Records on their way at once. It bounds memory; the producer batches them.
IN_FLIGHT = 1_000
HEADERS = [("content-type", b"application/json"), ("schema-version", b"1")]


@dataclass(frozen=True, slots=True)
class Fields:
    """How a file names things, where that differs from the settings' mapping.

    Attributes
    ----------
    entity_field, time_field
        Columns (dotted paths in JSON) that are moved to where the mapping looks.
    entity
        The entity of every line, for a file about one.
    """

    entity_field: str | None = None
    time_field: str | None = None
    entity: str | None = None


class Line(NamedTuple):
    """One line of a file, ready to be sent. `number` is where its record ends in the file, for errors; 0 for a line of no file."""

    time: datetime
    role: Role
    entity: str
    payload: dict[str, Any]
    number: int = 0


class Extent(NamedTuple):
    """What a replay will send: how many records, over which time."""

    records: int
    first: datetime | None
    last: datetime | None


def read_lines(path: Path, role: Role, settings: Settings, fields: Fields) -> Iterator[Line]:
    """Read a file line by line; `.csv` (and `.tsv`) by its header, anything else as JSON lines.

    A CSV cell becomes a number where it is one; empty cells and `NaN` are left out. Times without an offset are taken as UTC.

    Raises
    ------
    ReplayError
        The file cannot be read, or a line holds no entity or no time; the text names file and line.
    """
    mapping: InputSettings = getattr(settings, role)
    for number, payload in _payloads(path):
        try:
            yield _line(payload, role, mapping, fields)._replace(number=number)
        except ValueError as error:
            raise ReplayError(f"{path}, line {number}: {error}") from None


def read_files(observations: Path, truths: Path | None, settings: Settings, fields: Fields, limit: int | None = None) -> Iterator[Line]:
    """The lines of both files, merged by time; at most `limit` of them.

    The order within a file is kept even where its times go back. At equal times observations come first, so that a truth finds its
    prediction.
    """
    lines: Iterable[Line] = read_lines(observations, "observations", settings, fields)
    if truths is not None:
        lines = heapq.merge(lines, read_lines(truths, "truths", settings, fields), key=lambda line: line.time)
    return islice(lines, limit)


def measure(lines: Iterable[Line]) -> Extent:
    """Read everything once, without sending: a bad line is found before the first good one is sent."""
    records, first, last = 0, None, None
    for line in lines:
        records += 1
        first = line.time if first is None or line.time < first else first
        last = line.time if last is None or line.time > last else last
    return Extent(records, first, last)


class Pace:
    """When a record is due, from its stream time.

    Parameters
    ----------
    speed
        Stream seconds per second; None: as fast as the broker takes them.
    clock, sleep
        Seconds that never go back, and the wait; for tests.
    """

    def __init__(
        self,
        speed: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._speed, self._clock, self._sleep = speed, clock, sleep
        self._start: tuple[float, datetime] | None = None

    def early(self, moment: datetime) -> float:
        """Seconds until a record of that stream time is due; 0 for one that is late."""
        if self._speed is None:
            return 0.0
        if self._start is None:
            self._start = (self._clock(), moment)
        began, first = self._start
        return max(0.0, began + (moment - first).total_seconds() / self._speed - self._clock())

    async def wait(self, seconds: float) -> None:
        await self._sleep(seconds)


Sender = Callable[[Line], Awaitable[Awaitable[object]]]
"""Hands a line to the producer; what it returns is done when the broker has the record."""


async def replay(lines: Iterable[Line], send: Sender, pace: Pace, on_sent: Callable[[Line], None] = lambda line: None) -> int:
    """Send lines when they are due; return how many the broker has.

    Raises
    ------
    KafkaError
        A record was refused. Those before it in its partition were taken.
    """
    waiting: deque[tuple[Line, Awaitable[object]]] = deque()
    sent = 0

    async def settle(until: int) -> int:
        settled = 0
        while len(waiting) > until:
            line, done = waiting.popleft()
            await done
            on_sent(line)
            settled += 1
        return settled

    for line in lines:
        early = pace.early(line.time)
        if early > 0:
            sent += await settle(0)
            await pace.wait(pace.early(line.time))
        waiting.append((line, await send(line)))
        sent += await settle(IN_FLIGHT)
    return sent + await settle(0)


@asynccontextmanager
async def sending(settings: Settings, *, event_timestamps: bool = False) -> AsyncIterator[Sender]:
    """A sender into the settings' topics; keys are entities, placed by each input's partitioner.

    Parameters
    ----------
    event_timestamps
        Give records their event time as timestamp instead of the time of sending.

    Raises
    ------
    KafkaUnavailable
        Kafka does not answer.
    TopicsUnfit
        From the sender: its topic does not exist.
    ReplayError
        From the sender: the record is larger than a producer sends.
    """
    async with admin(settings.kafka) as client:
        found = await describe(client, [settings.topics.observations, settings.topics.truths])
    async with producer(settings.kafka, linger_ms=5) as writer:

        async def send(line: Line) -> Awaitable[object]:
            topic: str = getattr(settings.topics, line.role)
            if topic not in found:
                advice = "`palimpsest topics create --inputs` makes it."
                raise TopicsUnfit([Finding("fail", topic, "missing", "the topic does not exist.", advice)])
            key = line.entity.encode()
            mapping: InputSettings = getattr(settings, line.role)
            stamp = int(line.time.timestamp() * 1000) if event_timestamps else None
            partition = partition_of(key, found[topic].partitions, mapping.partitioner)
            value = orjson.dumps(line.payload)
            try:
                done: Awaitable[object] = await writer.send(topic, value, key=key, partition=partition, timestamp_ms=stamp, headers=HEADERS)
            except MessageSizeTooLargeError:
                where = f"{line.entity}, {line.time.isoformat()}"
                raise ReplayError(f"{topic}: a record of {len(value)} bytes ({where}) is too large") from None
            return done

        yield send


def _payloads(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() in (".csv", ".tsv"):
                reader = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
                for row in reader:
                    if None in row:
                        raise ReplayError(f"{path}, line {reader.line_num}: more cells than the header has names")
                    yield reader.line_num, {name: value for name, cell in row.items() if (value := _cell(cell)) is not None}
                return
            for number, text in enumerate(file, start=1):
                if text.strip():
                    try:
                        yield number, decode_object(text.encode())
                    except DecodeError as error:
                        raise ReplayError(f"{path}, line {number}: {error}") from None
    except OSError as error:
        raise ReplayError(f"{path}: {error.strerror or error}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ReplayError(f"{path}: not a readable CSV or JSON lines file: {error}") from None


def _cell(text: str | None) -> int | float | str | None:
    """A CSV cell's value; None for an empty one.

    Examples
    --------
    >>> [_cell(text) for text in ("21.4", "3", "007", "north", "", "nan")]
    [21.4, 3, '007', 'north', None, None]
    """
    text = (text or "").strip()
    if not text or text.lower() == "nan":
        return None
    if _INTEGER.fullmatch(text):
        return int(text) if len(text) <= _LONGEST_INTEGER else text
    if _NUMBER.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text


def _line(payload: dict[str, Any], role: Role, mapping: InputSettings, fields: Fields) -> Line:
    if fields.time_field is not None:
        _move(payload, fields.time_field, mapping.time)
    moment = _time(payload, fields.time_field if mapping.time == "@timestamp" else mapping.time, role)
    if fields.entity is not None:
        if mapping.entity != "@key":
            _put(payload, mapping.entity, fields.entity)
        return Line(moment, role, fields.entity, payload)
    if mapping.entity == "@key":
        if fields.entity_field is None:
            raise ValueError("the settings take the entity from the record's key: name it with --entity-field or --entity")
        return Line(moment, role, _entity(payload, fields.entity_field, mapping), payload)
    if fields.entity_field is not None:
        _move(payload, fields.entity_field, mapping.entity)
    return Line(moment, role, _entity(payload, mapping.entity, mapping), payload)


def _entity(payload: dict[str, Any], path: str, mapping: InputSettings) -> str:
    try:
        return read_entity(Record("", 0, 0, 0, None, b""), mapping.model_copy(update={"entity": path}), payload)
    except DecodeError as error:
        raise ValueError(f"{error.detail}; name the entity's field with --entity-field, or the entity with --entity") from None


def _time(payload: dict[str, Any], path: str | None, role: Role) -> datetime:
    if path is None:
        raise ValueError("the settings take the time from the record's timestamp: name its field with --time-field")
    raw = _found(payload, path)
    if raw is None and role == "truths":
        # A truth need not say when it became known; then it is sent at the time it is about.
        raw, path = _found(payload, "target_time"), "target_time"
    if raw is None:
        raise ValueError(f"no time at {path!r}; name its field with --time-field")
    if isinstance(raw, str):
        try:
            naive = datetime.fromisoformat(raw.strip())
        except ValueError:
            return parse_time(raw)
        if naive.tzinfo is None:
            moment = naive.replace(tzinfo=UTC)
            _put(payload, path, moment.isoformat().replace("+00:00", "Z"))
            return moment
    return parse_time(raw)


def _found(payload: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path; None where there is none, and for null, which is the same to a mapping."""
    missing = lookup({}, path)
    value = lookup(payload, path)
    return None if value is missing else value


def _move(payload: dict[str, Any], source: str, target: str) -> None:
    if source == target or target.startswith("@"):
        return
    value = _found(payload, source)
    if value is None:
        raise ValueError(f"nothing at {source!r}")
    _drop(payload, source)
    _put(payload, target, value)


def _put(payload: dict[str, Any], path: str, value: Any) -> None:
    """Set a value at a dotted path, as `lookup` will find it."""
    if path in payload:
        payload[path] = value
        return
    *parents, name = path.split(".")
    place = payload
    for parent in parents:
        below = place.setdefault(parent, {})
        if not isinstance(below, dict):
            raise ValueError(f"{path!r} cannot be set: {parent!r} is no object")
        place = below
    place[name] = value


def _drop(payload: dict[str, Any], path: str) -> None:
    if path in payload:
        del payload[path]
        return
    *parents, name = path.split(".")
    place: Any = payload
    for parent in parents:
        place = place[parent]
    del place[name]
