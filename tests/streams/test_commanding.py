"""A command goes where its entity's worker reads it, and only its own answer is taken for one. On a real Kafka; the worker is played."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime

import orjson
import pytest
from aiokafka.structs import ConsumerRecord

from schemas.codec import encode
from schemas.mapping import Record, read_command
from schemas.messages import Command, MemoryRevision
from schemas.settings import Settings
from streams import topics
from streams.commanding import correspondence
from streams.errors import CommandUnfit, TopicsUnfit, Unanswered
from streams.kafka import producer
from streams.partitioner import partition_of, state_partition
from streams.reading import read_topic

pytestmark = pytest.mark.integration

NOW = datetime(2024, 1, 1, tzinfo=UTC)
#: Seconds after which a test gives up; no assertion is about time.
PATIENCE = 60.0


def freeze(entity: str, identity: str = "c1") -> Command:
    return Command(entity=entity, op="freeze", by="ann", id=identity)


def answer(entity: str, identity: str, **fields: object) -> MemoryRevision:
    known = {"revision": 0, "cause": "command", "accepted": True, "made_at": NOW, **fields}
    return MemoryRevision(entity=entity, command=identity, **known)


async def commands_of(settings: Settings) -> list[ConsumerRecord]:
    async with aclosing(read_topic(settings.kafka, settings.topics.commands)) as records:
        return [record async for record in records]


async def write_memories(settings: Settings, *values: tuple[str, bytes], commit: bool = True) -> None:
    """As a worker writes them: in a transaction, on the entity's partition."""
    async with producer(settings.kafka, transactional_id=f"{settings.app}-worker") as client:
        await client.begin_transaction()
        for entity, value in values:
            partition = state_partition(settings, entity, settings.topics.partitions)
            await client.send_and_wait(settings.topics.memories, value, key=entity.encode(), partition=partition)
        if commit:
            await client.commit_transaction()
        else:
            await client.abort_transaction()


@pytest.mark.parametrize(
    ("commands", "observations"),
    [
        ({"key": "any"}, {"key": "any"}),
        ({"key": "entity"}, {"key": "entity"}),
        ({"key": "entity", "partitioner": "crc32", "entity": "@key"}, {"key": "entity", "partitioner": "crc32"}),
    ],
    ids=["re-keyed", "murmur2", "crc32"],
)
async def test_commands_stand_where_the_worker_of_the_entity_reads_them(
    own_settings: Settings, commands: dict[str, str], observations: dict[str, str]
) -> None:
    update = {"commands": Settings(commands=commands).commands, "observations": Settings(observations=observations).observations}
    settings = own_settings.model_copy(update=update)
    await topics.create(settings)
    entities = ["a", "b", "Zürich 7", "c" * 256]
    for entity in entities:
        async with correspondence(settings, entity) as letters:
            sent = await letters.send(freeze(entity))
        assert sent.partition == state_partition(settings, entity, 4)
        assert sent.topic == settings.topics.commands
    records = await commands_of(settings)
    found = {}
    for record in records:
        command = read_command(Record(record.topic, record.partition, record.offset, 0, record.key, record.value), settings)
        found[command.entity] = (record.key, record.partition)
    partitioner = settings.commands.partitioner
    assert found == {entity: (entity.encode(), partition_of(entity.encode(), 4, partitioner)) for entity in entities}


async def test_only_a_committed_entry_with_the_command_s_own_id_is_its_answer(own_settings: Settings) -> None:
    await topics.create(own_settings)
    partitions = own_settings.topics.partitions
    home = state_partition(own_settings, "a", partitions)
    neighbour = next(name for name in "bcdefghijk" if state_partition(own_settings, name, partitions) == home)
    # Of an earlier use of the id.
    await write_memories(own_settings, ("a", encode(answer("a", "c1", reason="before"))))
    async with correspondence(own_settings, "a") as letters:
        await letters.send(freeze("a"))
        waiting = asyncio.create_task(letters.answer("c1", timeout=PATIENCE))
        await write_memories(own_settings, ("a", encode(answer("a", "c1", reason="aborted"))), commit=False)
        await write_memories(
            own_settings,
            ("a", encode(answer("a", "c2", reason="another command"))),
            (neighbour, encode(answer(neighbour, "c1", reason="another entity"))),
            ("a", encode(answer("a", "", cause="feedback", reason="a rewrite"))),
            ("a", b"garbage"),
            ("a", orjson.dumps(["c1"])),
            ("a", encode(answer("a", "c1", reason="the answer"))),
        )
        assert (await waiting).reason == "the answer"


async def test_without_an_answer_waiting_ends_and_the_command_stands(own_settings: Settings) -> None:
    await topics.create(own_settings)
    async with correspondence(own_settings, "a") as letters:
        sent = await letters.send(freeze("a", "late"))
        with pytest.raises(Unanswered, match=own_settings.topics.memories):
            await letters.answer("late", timeout=0.2)
        # Whoever goes on waiting still gets it.
        await write_memories(own_settings, ("a", encode(answer("a", "late"))))
        assert (await letters.answer("late", timeout=PATIENCE)).accepted
    (record,) = await commands_of(own_settings)
    assert (record.partition, record.offset) == (sent.partition, sent.offset)
    assert orjson.loads(record.value) == {"schema_version": 1, "entity": "a", "op": "freeze", "id": "late", "by": "ann"}
    assert ("schema-version", b"1") in record.headers


async def test_what_would_be_a_dead_letter_is_not_sent(own_settings: Settings) -> None:
    settings = own_settings.model_copy(update={"commands": Settings(commands={"entity": "@key"}).commands})
    await topics.create(settings)
    async with correspondence(settings, "a") as letters:
        with pytest.raises(CommandUnfit, match=r"bad-entity.*'b'"):
            await letters.send(freeze("a").model_copy(update={"entity": "b"}))
    assert await commands_of(settings) == []


async def test_topics_that_do_not_exist_are_named(own_settings: Settings) -> None:
    with pytest.raises(TopicsUnfit) as raised:
        async with correspondence(own_settings, "a"):
            pass
    assert [finding.subject for finding in raised.value.findings] == [own_settings.topics.commands, own_settings.topics.memories]
