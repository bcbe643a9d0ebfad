"""States out of the changelog, into lines that people and `importing` can read.

Workers may run meanwhile. First it is noted what was read of the inputs, then the changelog is read to the ends it has then. A position
is committed after the states that it stands for, so every state has all that lies below the positions noted; it may have more, which
its own applied offsets tell. Each partition is a snapshot of one moment; the moments differ by how long the reading takes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from aiokafka.structs import ConsumerRecord, TopicPartition

from schemas.settings import Settings
from schemas.state import EntityState, PartitionState, entity_key
from streams.cluster import Span, committed, describe, spans
from streams.kafka import admin, consumer
from streams.partitioner import state_partition, state_partitioner
from streams.records import SOURCE_HEADER, read_source
from streams.state.changelog import open_changelog
from streams.state.dump import End, EntityLine, Input, LeftOut, Line, PartitionLine, Preamble
from streams.state.entries import BadRecord, decode_entry, show_key
from streams.topic_ids import topic_ids
from streams.topics import InputRole, by_entity_topic, input_topics, rekeyed_roles

#: Milliseconds that a fetch waits for more.
_POLL = 100


async def export(
    settings: Settings,
    *,
    now: datetime,
    entity: str | None = None,
    on_offsets: Callable[[int, int], None] = lambda done, total: None,
) -> AsyncGenerator[Preamble | Line, None]:
    """Yield the lines of an export. One partition's latest records are held in memory at a time.

    Parameters
    ----------
    now
        What the export says about when it was made.
    entity
        Only this one; its partition alone is read.
    on_offsets
        Told now and then how many offsets of how many are read.

    Raises
    ------
    KafkaUnavailable, TopicsUnfit
        Kafka does not answer; there is no changelog.
    """
    read = await _positions(settings)
    async with open_changelog(settings) as changelog:
        # After the changelog's ends: no state in the file knows an offset beyond those noted here.
        inputs = await _inputs(settings, read)
        yield Preamble(
            app=settings.app,
            exported_at=now,
            partitions=changelog.partitions,
            partitioner=state_partitioner(settings),
            changelog=changelog.topic,
            ends=tuple(span.end for _, span in sorted(changelog.spans.items())),
            inputs=inputs,
            entity=entity,
        )
        partitions = range(changelog.partitions) if entity is None else [state_partition(settings, entity, changelog.partitions)]
        total = sum(changelog.spans[partition].end - changelog.spans[partition].start for partition in partitions)
        done, entities, own = 0, 0, 0
        left_out: list[LeftOut] = []
        for partition in partitions:
            latest: dict[bytes | None, ConsumerRecord] = {}
            begin = changelog.spans[partition].start
            async for records in changelog.read(partition):
                _keep(latest, records, entity)
                on_offsets(done + records[-1].offset + 1 - begin, total)
            done += changelog.spans[partition].end - begin
            on_offsets(done, total)
            for line in _lines(latest):
                if isinstance(line, LeftOut):
                    left_out.append(line)
                    continue
                entities += isinstance(line, EntityLine)
                own += isinstance(line, PartitionLine)
                yield line
        yield End(entities=entities, partitions=own, left_out=tuple(left_out))


def _keep(latest: dict[bytes | None, ConsumerRecord], records: Iterable[ConsumerRecord], entity: str | None) -> None:
    only = None if entity is None else entity_key(entity)
    for record in records:
        if only is not None and record.key != only:
            continue
        if record.value is None:
            latest.pop(record.key, None)
        else:
            latest[record.key] = record


def _lines(latest: Mapping[bytes | None, ConsumerRecord]) -> Iterable[EntityLine | PartitionLine | LeftOut]:
    for key in sorted(latest, key=lambda key: key or b""):
        record = latest[key]
        try:
            state = decode_entry(record.key, record.value)
        except BadRecord as error:
            yield LeftOut(partition=record.partition, offset=record.offset, key=show_key(record.key), why=str(error))
            continue
        if isinstance(state, EntityState):
            yield EntityLine(partition=record.partition, offset=record.offset, state=state)
        elif isinstance(state, PartitionState):
            yield PartitionLine(partition=record.partition, offset=record.offset, state=state)


@dataclass(frozen=True, slots=True)
class _Read:
    """An input's topic, its id, and by partition the offset below which everything is in the states; None where nothing was read."""

    topic: str
    id: str | None
    positions: tuple[int | None, ...]


async def _positions(settings: Settings) -> dict[InputRole, _Read]:
    """How far each input was read; inputs whose topics do not exist are left out."""
    inputs, rekeyed = input_topics(settings), rekeyed_roles(settings)
    internal = {role: by_entity_topic(settings, role) for role in rekeyed}
    async with admin(settings.kafka) as client:
        found = await describe(client, [*inputs.values(), *internal.values()])
        ids = await topic_ids(client, inputs.values())
        done = await committed(client, settings.app)
    read: dict[InputRole, _Read] = {}
    for role, topic in inputs.items():
        if topic not in found:
            continue
        positions = [done.get(TopicPartition(topic, number)) for number in range(found[topic].partitions)]
        if role in internal and internal[role] in found:
            places = [TopicPartition(internal[role], number) for number in range(found[internal[role]].partitions)]
            for number, offset in (await _on_their_way(settings, {place: done.get(place) for place in places})).items():
                if number < len(positions) and (before := positions[number]) is not None:
                    positions[number] = min(before, offset)
        read[role] = _Read(topic, ids.get(topic), tuple(positions))
    return read


async def _on_their_way(settings: Settings, positions: Mapping[TopicPartition, int | None]) -> dict[int, int]:
    """By source partition, the first offset of what was written by entity and is not in the states yet."""
    held = await spans(settings.kafka, positions)
    begin = {place: max(position or 0, held[place].start) for place, position in positions.items()}
    waiting = [place for place in positions if begin[place] < held[place].end]
    first: dict[int, int] = {}
    if not waiting:
        return first
    async with consumer(settings.kafka, auto_offset_reset="earliest") as reader:
        reader.assign(waiting)
        for place in waiting:
            reader.seek(place, begin[place])
        while waiting:
            for place, records in (await reader.getmany(*waiting, timeout_ms=_POLL)).items():
                for record in records:
                    source = read_source(dict(record.headers).get(SOURCE_HEADER, b""))
                    if source is not None and record.offset < held[place].end:
                        _, number, offset, _ = source
                        first[number] = min(offset, first.get(number, offset))
            waiting = [place for place in waiting if await reader.position(place) < held[place].end]
    return first


async def _inputs(settings: Settings, read: Mapping[InputRole, _Read]) -> dict[InputRole, Input]:
    places = [TopicPartition(one.topic, number) for one in read.values() for number in range(len(one.positions))]
    held: Mapping[TopicPartition, Span] = await spans(settings.kafka, places)
    rekeyed = rekeyed_roles(settings)
    return {
        role: Input(
            topic=one.topic,
            id=one.id,
            keyed=role not in rekeyed,
            ends=tuple(held[TopicPartition(one.topic, number)].end for number in range(len(one.positions))),
            positions=one.positions,
        )
        for role, one in read.items()
    }
