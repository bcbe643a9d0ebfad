"""Where a new application begins to read."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

import pytest
from aiokafka.structs import TopicPartition

from schemas.settings import KafkaSettings, Settings, TopicSettings
from streams import topics
from streams.cluster import committed
from streams.kafka import admin, producer
from streams.start import set_start

pytestmark = pytest.mark.integration

#: Milliseconds since the epoch of the records that are there, one a second.
FIRST = 1_700_000_000_000


@pytest.mark.parametrize(
    ("start", "begins_at"),
    [("earliest", None), ("latest", 10), (datetime.fromtimestamp(FIRST / 1000 + 3.5, UTC), 4), (datetime(2100, 1, 1, tzinfo=UTC), 10)],
)
async def test_an_application_begins_where_it_is_told_to_and_only_once(kafka: str, start: str | datetime, begins_at: int | None) -> None:
    name = f"start-{secrets.token_hex(4)}"
    settings = Settings(
        app=name,
        start=start,
        kafka=KafkaSettings(bootstrap_servers=kafka),
        topics=TopicSettings(observations=f"{name}.o", truths=f"{name}.t", commands=f"{name}.c", partitions=2),
    )
    await topics.create(settings)
    place = TopicPartition(f"{name}.o", 0)

    async def send() -> None:
        async with producer(settings.kafka) as out:
            for number in range(10):
                await out.send_and_wait(place.topic, b"{}", partition=0, timestamp_ms=FIRST + number * 1000)

    async def position() -> int | None:
        async with admin(settings.kafka) as client:
            return (await committed(client, name)).get(place)

    await send()
    await set_start(settings)
    assert await position() == begins_at
    await send()
    await set_start(settings)
    assert await position() == begins_at
