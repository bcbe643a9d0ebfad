"""Where a new application begins to read (`start = earliest | latest | a time`).

Faust's own way (the consumer's `auto.offset.reset`) would decide again at every restart without a commit, and skip what came in
between. Here the beginning is committed once, before the worker joins its group; partitions that have a position keep it.
"""

from __future__ import annotations

import logging
from datetime import datetime

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.settings import Settings
from streams.cluster import describe
from streams.kafka import admin, consumer
from streams.topics import input_topics

log = logging.getLogger(__name__)


async def set_start(settings: Settings) -> None:
    """Commit the beginning for every input partition that has no position yet; with `earliest` there is nothing to do."""
    if settings.start == "earliest":
        return
    async with admin(settings.kafka) as client:
        found = await describe(client, input_topics(settings).values())
    async with consumer(settings.kafka, group_id=settings.app) as reader:
        for topic, state in found.items():
            tps = [TopicPartition(topic, number) for number in range(state.partitions)]
            fresh = [tp for tp in tps if await reader.committed(tp) is None]
            if not fresh:
                continue
            beginning = await _beginning(reader, fresh, settings.start)
            reader.assign(fresh)
            try:
                await reader.commit(beginning)
            except KafkaError as error:
                # Members are active: the first of them has decided already.
                log.info("the start of %s was left as it is: %s", topic, error)
                return
            log.info("%s begins at %s", topic, settings.start)


async def _beginning(reader: AIOKafkaConsumer, tps: list[TopicPartition], start: str | datetime) -> dict[TopicPartition, int]:
    ends: dict[TopicPartition, int] = await reader.end_offsets(tps)
    if not isinstance(start, datetime):
        return ends
    found = await reader.offsets_for_times({tp: int(start.timestamp() * 1000) for tp in tps})
    return {tp: ends[tp] if found[tp] is None else found[tp].offset for tp in tps}
