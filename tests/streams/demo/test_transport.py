"""Tests of `streams.demo.transport` on a fake of aiokafka's clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from aiokafka.structs import TopicPartition

from schemas.codec import encode
from schemas.mapping import Record
from schemas.messages import DeadLetter, MemoryRevision, Observation
from streams.dead_letters import to_record
from streams.demo import transport as module
from streams.demo.transport import KafkaTransport

NOW = datetime(2014, 4, 12, tzinfo=UTC)
REVISION = MemoryRevision(entity="seattle", revision=1, cause="feedback", accepted=True, after="text", words=1, made_at=NOW)


@dataclass
class FakeRecord:
    topic: str
    value: bytes | None
    headers: list[tuple[str, bytes]] = field(default_factory=list)


@dataclass
class FakeClient:
    sent: list[tuple[str, bytes, bytes]] = field(default_factory=list)
    batches: list[dict[TopicPartition, list[FakeRecord]]] = field(default_factory=list)
    assigned: list[TopicPartition] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)

    async def send_and_wait(self, topic: str, value: bytes, *, key: bytes, headers: list[tuple[str, bytes]]) -> None:
        self.sent.append((topic, key, value))

    async def partitions_for(self, topic: str) -> set[int]:
        return {0, 1}

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned = partitions

    async def getmany(self, *, timeout_ms: int) -> dict[TopicPartition, list[FakeRecord]]:
        return self.batches.pop(0) if self.batches else {}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    fake = FakeClient()

    @asynccontextmanager
    async def opened(settings: Any, **options: Any) -> AsyncIterator[FakeClient]:
        fake.options |= options
        yield fake

    monkeypatch.setattr(module, "producer", opened)
    monkeypatch.setattr(module, "consumer", opened)
    return fake


async def test_messages_are_keyed_by_their_entity(client: FakeClient, make_settings: Callable[..., Any]) -> None:
    settings = make_settings()
    async with KafkaTransport(settings) as transport:
        await transport.send("observations", Observation(entity="seattle", id="a", time=NOW, values={"temp_max": 1.0}))
    [(topic, key, value)] = client.sent
    assert (topic, key, orjson.loads(value)["id"]) == (settings.topics.observations, b"seattle", "a")


async def test_all_outputs_are_read_from_the_beginning_and_only_what_was_committed(
    client: FakeClient, make_settings: Callable[..., Any]
) -> None:
    topics = make_settings().topics
    async with KafkaTransport(make_settings()):
        pass
    outputs = (topics.predictions, topics.outcomes, topics.memories, topics.dead_letters)
    assert client.assigned == [TopicPartition(topic, number) for topic in outputs for number in (0, 1)]
    assert client.options == {"auto_offset_reset": "earliest", "isolation_level": "read_committed"}


async def test_messages_and_dead_letters_are_decoded_and_tombstones_passed_over(
    client: FakeClient, make_settings: Callable[..., Any]
) -> None:
    topics = make_settings().topics
    letter = to_record(Record(topics.observations, 0, 7, 0, None, b"{"), "not-json", "unexpected end")
    client.batches = [
        {},
        {
            TopicPartition(topics.memories, 0): [FakeRecord(topics.memories, encode(REVISION)), FakeRecord(topics.memories, None)],
            TopicPartition(topics.dead_letters, 0): [FakeRecord(topics.dead_letters, letter.value, letter.headers)],
        },
    ]
    async with KafkaTransport(make_settings()) as transport:
        revision, dead = await transport.receive()
    assert revision == REVISION
    assert isinstance(dead, DeadLetter)
    assert (dead.reason, dead.topic, dead.offset) == ("not-json", topics.observations, 7)


async def test_the_rest_is_read_until_nothing_more_comes(client: FakeClient, make_settings: Callable[..., Any]) -> None:
    topic = make_settings().topics.memories
    client.batches = [{TopicPartition(topic, 0): [FakeRecord(topic, encode(REVISION))]}] * 3
    async with KafkaTransport(make_settings()) as transport:
        assert await transport.rest() == [REVISION] * 3
