"""States written to a real changelog, as workers would."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from schemas.codec import encode
from schemas.settings import Settings
from schemas.state import PARTITION_KEY, EntityState, PartitionState, encode_state, entity_key
from streams import topics
from streams.kafka import consumer, producer
from streams.partitioner import state_partition
from streams.topics import changelog_topic

PARTITIONS = 4


@pytest.fixture
async def keyed(own_settings: Settings, tmp_path: Path) -> Settings:
    """An application of its own whose observations are used as they are; its topics exist, its state directory does not yet."""
    changes: dict[str, Any] = {
        "observations": own_settings.observations.model_copy(update={"key": "entity"}),
        "worker": own_settings.worker.model_copy(update={"state_dir": tmp_path / "state"}),
    }
    settings = own_settings.model_copy(update=changes)
    await topics.create(settings)
    return settings


def home(settings: Settings, entity: str) -> int:
    return state_partition(settings, entity, PARTITIONS)


async def write_states(settings: Settings, *states: EntityState | PartitionState | bytes, partition: int | None = None) -> list[int]:
    """Write states to the changelog, bytes as tombstones of that entity; return the offsets."""
    offsets = []
    async with producer(settings.kafka) as client:
        for state in states:
            if isinstance(state, PartitionState):
                assert partition is not None
                key, value, place = PARTITION_KEY, encode(state), partition
            elif isinstance(state, EntityState):
                key, value, place = entity_key(state.entity), encode_state(state), home(settings, state.entity)
            else:
                key, value, place = entity_key(state.decode()), None, home(settings, state.decode())
            place = place if partition is None else partition
            offsets.append((await client.send_and_wait(changelog_topic(settings), value, key=key, partition=place)).offset)
    return offsets


async def fill(settings: Settings, topic: str, records: Mapping[int, int], **headers: Callable[[int], bytes]) -> None:
    """Write so many records to each partition of a topic; headers are made from the record's number."""
    async with producer(settings.kafka) as client:
        for partition, count in records.items():
            for number in range(count):
                about = [(name.replace("_", "-"), make(number)) for name, make in headers.items()]
                await client.send_and_wait(topic, b"{}", partition=partition, headers=about)


@asynccontextmanager
async def member(settings: Settings) -> AsyncIterator[None]:
    """Somebody is in the group."""
    async with consumer(settings.kafka, group_id=settings.app, auto_offset_reset="earliest") as reader:
        reader.subscribe([settings.topics.commands])
        while not reader.assignment():
            await reader.getmany(timeout_ms=100)
        yield


async def commit(settings: Settings, positions: Mapping[TopicPartition, int]) -> None:
    """Commit positions of the group."""
    async with consumer(settings.kafka, group_id=settings.app) as reader:
        reader.assign(list(positions))
        await reader.commit(dict(positions))
