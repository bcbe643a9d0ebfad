"""States from an export into an application that has none.

Everything is looked at before anything is written: the whole file, line by line; that the application is at rest and empty; that each
input is the topic it was, or is not (`continuity`). Then states and positions are written **in one Kafka transaction**. Whatever happens
meanwhile, a worker finds all of it or nothing; an import that was cut off is simply run again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import TopicPartition
from tenacity import AsyncRetrying, retry_if_result, stop_after_delay, wait_fixed

from schemas.codec import encode
from schemas.settings import Settings
from schemas.state import PARTITION_KEY, encode_state, entity_key
from streams import topics
from streams.cluster import committed, describe, spans
from streams.errors import DumpError, StatesInTheWay, TopicsUnfit
from streams.findings import failed
from streams.kafka import admin, producer
from streams.state.changelog import open_changelog
from streams.state.continuity import Passage, Positions, Present, judge
from streams.state.dump import End, EntityLine, Numbered, PartitionLine, Preamble, open_dump
from streams.state.rest import fence, require_rest
from streams.state.store import find_stores
from streams.state.translation import Source, Translation, applied_offsets
from streams.topic_ids import topic_ids
from streams.topics import by_entity_topic, changelog_topic, input_topics, rekeyed_roles
from streams.writer import RECORD_OVERHEAD

#: Records that may be on their way to the broker before the next is read.
_WINDOW = 2_000
#: Seconds that the transaction may take: a second more for each of so many bytes. Brokers allow 15 minutes by default.
_LEAST_SECONDS, _BYTES_A_SECOND, _MOST_SECONDS = 60, 500_000, 900
#: Seconds for the group's positions to be seen after the transaction.
_SPREAD = 30.0

_RESET = "Run `palimpsest state reset` first."

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import came to.

    Attributes
    ----------
    entities, partitions
        States that were written, and over how many partitions they are now.
    preamble, end
        What the file says of itself.
    passages
        How each input goes on, by role.
    """

    entities: int
    partitions: int
    preamble: Preamble
    end: End
    passages: Mapping[str, Passage]


async def import_states(
    settings: Settings, path: Path, positions: Positions = "auto", on_progress: Progress = lambda what, done, total: None
) -> Imported:
    """Import a whole export; the file is read twice.

    Parameters
    ----------
    positions
        Whether inputs are taken for the topics they were; see `continuity`.
    on_progress
        Told now and then what is being done, and how much of how much is.

    Raises
    ------
    DumpError
        The file is no whole export, or does not fit here. Nothing was written.
    StatesInUse, StatesInTheWay
        The application has workers, or states, or positions. Nothing was written.
    KafkaUnavailable, TopicsUnfit, KafkaError
        Kafka does not answer, or refuses; a topic is missing or unfit. Nothing is to be seen of what was written.
    """
    contents = await asyncio.to_thread(_look_through, path, on_progress)
    if wrong := failed(await topics.check(settings)):
        raise TopicsUnfit(wrong)
    seen = await topics.survey(settings)
    partitions = seen.plan[0].partitions
    _require_room(path, contents, seen, changelog_topic(settings))
    async with admin(settings.kafka) as client:
        await require_rest(client, settings)
        await _require_nothing(client, settings)
        inputs = await _present(client, settings)
    then = {str(role): one for role, one in contents.preamble.inputs.items()}
    passages = {}
    for role, now in inputs.items():
        furthest = {number: offset for (input_, number), offset in contents.furthest.items() if input_ == role}
        passages[role] = judge(then.get(role), now, furthest, positions)
    translation = Translation(contents.preamble, settings, partitions, inputs, passages)
    for line in contents.own:
        translation.take(line)
    begin = {TopicPartition(passage.topic, number): offset for passage in passages.values() for number, offset in passage.positions.items()}
    await fence(settings, partitions)
    entities = await _write(settings, path, contents, translation, begin, on_progress)
    return Imported(entities, partitions, contents.preamble, contents.end, passages)


# --- the file


@dataclass(slots=True)
class _Contents:
    """What is known of a file that was looked through.

    Attributes
    ----------
    own
        The partitions' own records.
    furthest
        The furthest offset that the states know, by input and its partition.
    size, longest
        Bytes of all lines; number and bytes of the longest one.
    """

    preamble: Preamble
    end: End
    own: list[PartitionLine]
    furthest: dict[Source, int]
    size: int
    longest: tuple[int, int]


def _look_through(path: Path, on_progress: Progress) -> _Contents:
    with open_dump(path) as (preamble, lines):
        if preamble.entity is not None:
            raise DumpError(f"{path} holds {preamble.entity!r} alone; only whole exports, made without --entity, can be imported")
        found = _Contents(preamble, End(entities=0, partitions=0), [], {}, 0, (1, 0))
        seen: dict[str, int] = {}
        whole = path.stat().st_size
        for line in lines:
            found.size += line.size
            if line.size > found.longest[1]:
                found.longest = (line.number, line.size)
            _take(path, found, seen, line)
            if line.number % 1_000 == 0:
                on_progress("reading", found.size, whole)
    return found


def _take(path: Path, found: _Contents, seen: dict[str, int], line: Numbered) -> None:
    content = line.content
    if isinstance(content, End):
        found.end = content
        return
    if isinstance(content, PartitionLine):
        found.own.append(content)
    else:
        entity = content.state.entity
        if (before := seen.setdefault(entity, line.number)) != line.number:
            raise DumpError(
                f"{path}: line {line.number}: {entity!r} has a state in line {before} already, on another partition. Was the partition "
                "count of the topics raised? Delete the line of the state that is to be given up."
            )
    for source, offset in applied_offsets(content).items():
        found.furthest[source] = max(offset, found.furthest.get(source, offset))


# --- where it goes


def _require_room(path: Path, found: _Contents, seen: topics.Survey, changelog: str) -> None:
    """Refuse a state that the changelog does not take. A line is longer than its record."""
    limit = seen.found[changelog].number("max.message.bytes", topics.DEFAULT_MESSAGE_BYTES) - RECORD_OVERHEAD
    number, size = found.longest
    if size > limit:
        raise DumpError(f"{path}: line {number} has {size} bytes, and {changelog} takes {limit} (max.message.bytes; bounds.record)")


async def _require_nothing(client: AIOKafkaAdminClient, settings: Settings) -> None:
    internal = [by_entity_topic(settings, role) for role in rekeyed_roles(settings)]
    read = {*input_topics(settings).values(), *internal}
    if held := sorted(f"{place.topic}/{place.partition}" for place in await committed(client, settings.app) if place.topic in read):
        raise StatesInTheWay(f"the group {settings.app} has read {', '.join(held[:3])}{' and others' * (len(held) > 3)}. {_RESET}")
    described = await describe(client, internal)
    places = [TopicPartition(name, number) for name, topic in described.items() for number in range(topic.partitions)]
    for place, span in (await spans(settings.kafka, places)).items():
        if span.end > span.start:
            raise StatesInTheWay(f"{place.topic} holds records of {place.partition} that no state has. {_RESET}")
    if stores := find_stores(settings):
        raise StatesInTheWay(f"{next(iter(stores.values()))} holds states of before. {_RESET}")
    async with open_changelog(settings) as changelog:
        for partition in range(changelog.partitions):
            async for records in changelog.read(partition):
                if any(record.value is not None for record in records):
                    raise StatesInTheWay(f"{changelog.topic} holds states already. {_RESET}")


async def _present(client: AIOKafkaAdminClient, settings: Settings) -> dict[str, Present]:
    inputs, rekeyed = input_topics(settings), rekeyed_roles(settings)
    described, ids = await describe(client, inputs.values()), await topic_ids(client, inputs.values())
    places = {role: [TopicPartition(topic, number) for number in range(described[topic].partitions)] for role, topic in inputs.items()}
    held = await spans(settings.kafka, [place for some in places.values() for place in some])
    return {
        role: Present(topic, ids.get(topic), role not in rekeyed, [held[place] for place in places[role]]) for role, topic in inputs.items()
    }


# --- the transaction


async def _write(
    settings: Settings,
    path: Path,
    found: _Contents,
    translation: Translation,
    positions: Mapping[TopicPartition, int],
    on_progress: Progress,
) -> int:
    seconds = min(_LEAST_SECONDS + found.size // _BYTES_A_SECOND, _MOST_SECONDS)
    options = {
        "transactional_id": f"{settings.app}-state-import",
        "transaction_timeout_ms": seconds * 1000,
        "max_request_size": found.longest[1] + RECORD_OVERHEAD + 1_048_576,
        "linger_ms": 5,
    }
    async with producer(settings.kafka, **options) as client, client.transaction():
        entities = await _send_states(client, changelog_topic(settings), path, found, translation, settings, on_progress)
        async with admin(settings.kafka) as other:
            # The last moment to find that somebody has started a worker.
            await require_rest(other, settings)
        if positions:
            await client.send_offsets_to_transaction(positions, settings.app)
    await _until_seen(settings, positions)
    return entities


async def _send_states(
    client: AIOKafkaProducer,
    topic: str,
    path: Path,
    found: _Contents,
    translation: Translation,
    settings: Settings,
    on_progress: Progress,
) -> int:
    sent: list[asyncio.Future[object]] = []
    for partition, own in translation.own_records().items():
        sent.append(await client.send(topic, encode(own), key=PARTITION_KEY, partition=partition))
    entities, done = 0, 0
    with open_dump(path) as (_, lines):
        for line in lines:
            done += line.size
            if not isinstance(line.content, EntityLine):
                continue
            entities += 1
            state = translation.entity(line.content)
            record = encode_state(state, settings.entity_ttl)
            sent.append(await client.send(topic, record, key=entity_key(state.entity), partition=translation.partition(state.entity)))
            if len(sent) >= _WINDOW:
                await asyncio.gather(*sent)
                sent.clear()
                on_progress("writing", done, found.size)
    await asyncio.gather(*sent)
    on_progress("writing", found.size, found.size)
    return entities


async def _until_seen(settings: Settings, positions: Mapping[TopicPartition, int]) -> None:
    """Return when the coordinator tells the positions: a worker that starts at once must not begin elsewhere."""

    async def there() -> bool:
        return positions.items() <= (await committed(client, settings.app)).items()

    async with admin(settings.kafka) as client:
        waiting = AsyncRetrying(retry=retry_if_result(lambda seen: not seen), stop=stop_after_delay(_SPREAD), wait=wait_fixed(0.1))
        await waiting(there)
