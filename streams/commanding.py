"""Sending a command to an entity, and awaiting its answer.

A command goes to the `commands` topic as anybody may write it there: JSON, keyed by the entity, on the entity's partition, with an `id`.
The worker that has the partition does it or refuses it in the entity's lane, and answers in `memories` in the transaction of the change
itself: what is read under `read_committed` is final. The answer repeats the `id`; `memories` is followed from before the command is sent.

A command that cannot be used is never answered (it goes to the dead letters), so what is sent is first read as the worker will read it.
Nobody waits for ever: a command without an answer stands in its topic, and is done when a worker comes to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from schemas.codec import DecodeError, encode
from schemas.mapping import Record, read_command
from schemas.messages import Command, MemoryRevision
from schemas.settings import Settings
from streams.cluster import describe
from streams.errors import CommandUnfit, TopicsUnfit, Unanswered
from streams.findings import Finding
from streams.kafka import admin, consumer, producer
from streams.partitioner import state_partition

#: Milliseconds of one look for the answer.
_POLL = 500


class Sent(NamedTuple):
    """Where a command stands."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}, offset {self.offset}"


@dataclass(slots=True)
class Correspondence:
    """Commands to one entity and their answers, on open connections. Made by `correspondence`."""

    settings: Settings
    entity: str
    #: Partitions of the commands' topic.
    partitions: int
    writer: AIOKafkaProducer
    #: Stands in `memories` where it ended before anything was sent.
    reader: AIOKafkaConsumer

    async def send(self, command: Command) -> Sent:
        """Write a command, and return when the brokers have it.

        Cancelled, or failed with a `KafkaError`, it may have been sent all the same.

        Raises
        ------
        CommandUnfit
            It would go to the dead letters; nothing was sent.
        """
        topic, key, value = self.settings.topics.commands, self.entity.encode(), encode(command)
        # Inputs with foreign keys are read from wherever a record stands; there too one partition keeps an entity's commands in order.
        partition = state_partition(self.settings, self.entity, self.partitions)
        try:
            read_command(Record(topic, partition, 0, 0, key, value), self.settings)
        except DecodeError as error:
            raise CommandUnfit(f"a worker with these settings could not use the command: {error.reason}: {error.detail}") from None
        headers = [("content-type", b"application/json"), ("schema-version", b"%d" % command.schema_version)]
        done = await self.writer.send_and_wait(topic, value, key=key, partition=partition, headers=headers)
        return Sent(topic, partition, done.offset)

    async def answer(self, identity: str, *, timeout: float) -> MemoryRevision:
        """The answer to the command of that id.

        Parameters
        ----------
        timeout
            Seconds.

        Raises
        ------
        Unanswered
            There was none in that time.
        """
        key = self.entity.encode()
        try:
            async with asyncio.timeout(timeout):
                while True:
                    for records in (await self.reader.getmany(timeout_ms=_POLL)).values():
                        for record in records:
                            if record.key == key and record.value and _answers(record.value, identity):
                                return MemoryRevision.model_validate_json(record.value)
        except TimeoutError:
            raise Unanswered(f"no answer in {self.settings.topics.memories} within {timeout:g} s") from None


@asynccontextmanager
async def correspondence(settings: Settings, entity: str) -> AsyncIterator[Correspondence]:
    """Open what sending commands to an entity needs, and take the place in `memories` from which their answers are looked for.

    Raises
    ------
    KafkaUnavailable, TopicsUnfit
        Kafka does not answer; a topic does not exist.
    """
    commands, memories = settings.topics.commands, settings.topics.memories
    async with admin(settings.kafka) as client:
        found = await describe(client, [commands, memories])
    missing = [name for name in (commands, memories) if name not in found]
    if missing:
        advice = "`palimpsest topics create` makes it."
        raise TopicsUnfit([Finding("fail", name, "missing", "the topic does not exist.", advice) for name in missing])
    place = TopicPartition(memories, state_partition(settings, entity, found[memories].partitions))
    async with consumer(settings.kafka, isolation_level="read_committed", auto_offset_reset="earliest") as reader:
        reader.assign([place])
        reader.seek(place, (await reader.end_offsets([place]))[place])
        async with producer(settings.kafka) as writer:
            yield Correspondence(settings, entity, found[commands].partitions, writer, reader)


def _answers(value: bytes, identity: str) -> bool:
    try:
        entry = orjson.loads(value)
    except orjson.JSONDecodeError:
        return False
    return isinstance(entry, dict) and entry.get("command") == identity
