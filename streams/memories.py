"""The audit log of memories, read back: every revision, refusal and answer about one entity."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from pydantic import ValidationError

from schemas.messages import MemoryRevision
from schemas.settings import Settings
from streams.cluster import describe
from streams.errors import TopicsUnfit
from streams.findings import Finding
from streams.kafka import admin
from streams.partitioner import state_partition
from streams.reading import read_topic

log = logging.getLogger(__name__)


async def revisions(settings: Settings, entity: str) -> AsyncGenerator[MemoryRevision, None]:
    """The entries about one entity, oldest first. Records that are none are logged and left out.

    Leave it through `contextlib.aclosing` where the loop may end early.

    Raises
    ------
    KafkaUnavailable, TopicsUnfit
        Kafka does not answer; the topic does not exist.
    """
    topic = settings.topics.memories
    async with admin(settings.kafka) as client:
        state = (await describe(client, [topic])).get(topic)
    if state is None:
        raise TopicsUnfit([Finding("fail", topic, "missing", "the topic does not exist.", "`palimpsest topics create` makes it.")])
    key = entity.encode()
    async with aclosing(read_topic(settings.kafka, topic, [state_partition(settings, entity, state.partitions)])) as records:
        async for record in records:
            if record.key != key or record.value is None:
                continue
            try:
                yield MemoryRevision.model_validate_json(record.value)
            except ValidationError as error:
                where = f"{topic}/{record.partition}, offset {record.offset}"
                log.warning("%s: not a memory revision (%d faults)", where, error.error_count())


async def newest(settings: Settings, entity: str, *, accepted: bool = False) -> MemoryRevision | None:
    """The last entry about an entity; None if there is none. Its `revision` is the one that the memory stood at when it was made.

    Parameters
    ----------
    accepted
        The last entry of something that was done; refusals repeat the memory as it was.

    Raises
    ------
    KafkaUnavailable, TopicsUnfit
        As `revisions`.
    """
    last = None
    async with aclosing(revisions(settings, entity)) as found:
        async for revision in found:
            if revision.accepted or not accepted:
                last = revision
    return last
