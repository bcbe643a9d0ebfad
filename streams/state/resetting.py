"""An application's states taken away, so that it starts as a new one: from `start`, with nobody known.

What goes: the group with its positions, the changelog and the topics by entity (made anew, as `streams.topics` plans them), and this
machine's RocksDB. What stays: inputs and outputs, with everything in them.

The group goes first: the broker itself refuses to delete one that has members. Cut off anywhere, a reset is run again; a worker that is
started before would find no positions, or no states, or no topics. On other machines RocksDB stays as it is; a worker there sees that
it does not belong to the new changelog, and builds it anew (`streams.restoring`).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import NonEmptyGroup, UnknownTopicOrPartitionError, for_code
from aiokafka.structs import TopicPartition

from schemas.settings import Settings
from streams import topics
from streams.cluster import TopicState, committed, delete_group, describe, spans
from streams.errors import KafkaUnavailable, StatesInUse, TopicsUnfit
from streams.findings import Finding
from streams.kafka import admin
from streams.state.rest import fence, require_rest
from streams.state.store import find_stores, wipe
from streams.topic_ids import topic_ids
from streams.topics import SPREAD_LIMIT, InputRole, by_entity_topic, changelog_topic

_ROLES: tuple[InputRole, ...] = ("observations", "truths", "commands")


@dataclass(frozen=True, slots=True)
class Holdings:
    """What an application has that a reset takes away.

    Attributes
    ----------
    positions
        By topic, in how many partitions the group has one.
    topics
        By name, those that are made anew; `records` has how many offsets each holds.
    stores
        This machine's RocksDB directories, by partition.
    """

    positions: Mapping[str, int]
    topics: Mapping[str, TopicState]
    records: Mapping[str, int]
    stores: Mapping[int, Path]

    def __bool__(self) -> bool:
        return bool(self.positions or self.topics or self.stores)


async def look(settings: Settings) -> Holdings:
    """What there is to take away. Topics by entity of inputs that are used as they are now count too.

    Raises
    ------
    KafkaUnavailable
        Kafka does not answer.
    """
    async with admin(settings.kafka) as client:
        found = await describe(client, [changelog_topic(settings), *(by_entity_topic(settings, role) for role in _ROLES)])
        positions = Counter(place.topic for place in await committed(client, settings.app))
    places = [TopicPartition(name, number) for name, topic in found.items() for number in range(topic.partitions)]
    records: Counter[str] = Counter(dict.fromkeys(found, 0))
    for place, span in (await spans(settings.kafka, places)).items():
        records[place.topic] += span.end - span.start
    return Holdings(positions, found, records, find_stores(settings))


async def require_idle(settings: Settings) -> None:
    """Refuse if the application has workers.

    Raises
    ------
    StatesInUse
        It has.
    """
    async with admin(settings.kafka) as client:
        await require_rest(client, settings)


async def reset(settings: Settings) -> Holdings:
    """Take the states away; return what there was.

    Raises
    ------
    StatesInUse
        The application has workers. Nothing was done.
    KafkaUnavailable, TopicsUnfit, KafkaError
        Kafka does not answer, or refuses. Run it again when the cause is gone.
    """
    held = await look(settings)
    async with admin(settings.kafka) as client:
        await require_rest(client, settings)
        ids = await topic_ids(client, held.topics)
        try:
            await delete_group(client, settings.app)
        except NonEmptyGroup:
            raise StatesInUse(f"the group {settings.app} has members again: a worker was started. Stop it, and what starts it.") from None
        changelog = held.topics.get(changelog_topic(settings))
        if changelog is not None:
            await fence(settings, changelog.partitions)
        await _delete(client, held.topics)
        wipe(settings)
        await _make_anew(client, settings, held, ids)
    return held


async def _delete(client: AIOKafkaAdminClient, names: Iterable[str]) -> None:
    answer = await client.delete_topics(list(names))
    refused = []
    for name, code, *_ in answer.topic_error_codes:
        if code and code != UnknownTopicOrPartitionError.errno:
            text = f"the brokers refuse to delete the topic: {for_code(code).__name__} (code {code})."
            advice = "Is the right to delete topics missing, or delete.topic.enable off? Nothing but the group's positions is gone."
            refused.append(Finding("fail", name, "undeletable", text, advice))
    if refused:
        raise TopicsUnfit(refused)


async def _make_anew(client: AIOKafkaAdminClient, settings: Settings, held: Holdings, ids: Mapping[str, str]) -> None:
    """Make the topics again, with no fewer replicas than they had; a broker that is told late still shows the old ones for a while."""
    copies = max([settings.topics.replication, *(topic.replication for topic in held.topics.values())])
    safe = settings.model_copy(update={"topics": settings.topics.model_copy(update={"replication": copies})})
    deadline = time.monotonic() + SPREAD_LIMIT
    while await describe(client, held.topics):
        await _wait(deadline, f"the brokers do not let go of {', '.join(held.topics)}")
    await topics.create(safe, inputs=False)
    while [name for name, id_ in (await topic_ids(client, ids)).items() if id_ == ids[name]]:
        await _wait(deadline, f"the brokers do not agree yet that {', '.join(ids)} are gone")
        await topics.create(safe, inputs=False)


async def _wait(deadline: float, otherwise: str) -> None:
    if time.monotonic() > deadline:
        raise KafkaUnavailable(f"{otherwise} within {SPREAD_LIMIT:.0f} s: is one of them down? Run the reset again.")
    await asyncio.sleep(0.1)
