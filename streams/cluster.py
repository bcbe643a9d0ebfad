"""What a Kafka cluster says about itself: topics with their settings, offsets, a group's positions, its version.

Typed answers over aiokafka's admin client, which returns the protocol's own structures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import GroupIdNotFound, KafkaError, for_code
from aiokafka.protocol.admin import DeleteGroupsRequest
from aiokafka.structs import TopicPartition

from schemas.settings import KafkaSettings
from streams.kafka import consumer

#: Highest version of the Fetch request by the release that brought it: brokers do not tell their release, but what they speak.
_FETCH_SINCE = {11: "2.3", 12: "2.7", 13: "3.1", 14: "3.5", 15: "3.5", 16: "3.7", 17: "3.9", 18: "4.1"}
_FETCH = 1


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it is.

    Attributes
    ----------
    partitions, replication
        Counts; the replication is the smallest of all partitions.
    configs
        All settings in force, by Kafka's names.
    """

    name: str
    partitions: int
    replication: int
    configs: Mapping[str, str] = field(default_factory=dict)

    def number(self, key: str, default: int) -> int:
        """A setting as a whole number."""
        try:
            return int(self.configs[key])
        except (KeyError, ValueError):
            return default


class Span(NamedTuple):
    """The offsets a partition holds: the first, and one past the last."""

    start: int
    end: int


async def describe(client: AIOKafkaAdminClient, names: Iterable[str]) -> dict[str, TopicState]:
    """Topics by name, with their settings; those that do not exist are left out.

    It asks for all topics and picks: asking for one by name would create it where brokers are set up that way.
    """
    wanted = set(names)
    found: dict[str, tuple[int, int]] = {}
    for topic in await client.describe_topics():
        if topic["topic"] in wanted and not topic["error_code"]:
            copies = [len(partition["replicas"]) for partition in topic["partitions"]]
            found[topic["topic"]] = (len(copies), min(copies, default=0))
    configs = await _configs(client, found)
    return {name: TopicState(name, *counts, configs.get(name, {})) for name, counts in found.items()}


async def _configs(client: AIOKafkaAdminClient, names: Iterable[str]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    if not resources:
        return {}
    configs: dict[str, dict[str, str]] = {}
    for response in await client.describe_configs(resources):
        for code, message, _, name, entries in response.resources:
            if code:
                raise for_code(code)(f"settings of the topic {name} cannot be read: {message}")
            configs[name] = {entry[0]: entry[1] for entry in entries if entry[1] is not None}
    return configs


async def committed(client: AIOKafkaAdminClient, group: str) -> dict[TopicPartition, int]:
    """Where a consumer group stands; partitions without a position are left out.

    A coordinator that is still loading its log (seconds after a broker's start) is asked again for a while.
    """
    for attempt in range(20):
        try:
            positions = await client.list_consumer_group_offsets(group)
            break
        except KafkaError as error:
            if not error.retriable or attempt == 19:
                raise
            await asyncio.sleep(0.25)
    return {partition: position.offset for partition, position in positions.items() if position.offset >= 0}


async def delete_group(client: AIOKafkaAdminClient, group: str) -> None:
    """Delete a consumer group with its positions. Nothing happens where there is none.

    Raises
    ------
    NonEmptyGroup
        It has members.
    KafkaError
        The coordinator refuses.
    """
    coordinator = await client.find_coordinator(group)
    answer = await client._send_request(DeleteGroupsRequest([group]), coordinator)
    for name, code in answer.results:
        if code and code != GroupIdNotFound.errno:
            raise for_code(code)(f"the group {name} cannot be deleted")


async def spans(
    settings: KafkaSettings,
    partitions: Iterable[TopicPartition],
    *,
    isolation: Literal["read_committed", "read_uncommitted"] = "read_uncommitted",
) -> dict[TopicPartition, Span]:
    """The offsets that partitions hold now.

    Parameters
    ----------
    isolation
        `read_committed`: to where a reader of committed records gets, which is not past the beginning of an open transaction.
    """
    wanted = list(partitions)
    if not wanted:
        return {}
    # A new client knows no partition, and asks again after this many milliseconds.
    async with consumer(settings, isolation_level=isolation, retry_backoff_ms=10) as reader:
        starts = await reader.beginning_offsets(wanted)
        ends = await reader.end_offsets(wanted)
    return {partition: Span(starts[partition], ends[partition]) for partition in wanted}


class Brokers(NamedTuple):
    """How many brokers there are, and the release of Kafka that first spoke what they speak."""

    number: int
    version: str


class BrokerLimits(NamedTuple):
    """What the brokers allow and do, as far as a worker's settings have to fit it; Kafka's defaults where they do not tell."""

    shortest_session: timedelta = timedelta(seconds=6)
    longest_session: timedelta = timedelta(minutes=30)
    longest_transaction: timedelta = timedelta(minutes=15)
    #: How long the first member of an empty group waits for others.
    initial_rebalance_delay: timedelta = timedelta(seconds=3)


#: Brokers' settings (milliseconds) by the field of `BrokerLimits`.
_LIMITS = {
    "shortest_session": "group.min.session.timeout.ms",
    "longest_session": "group.max.session.timeout.ms",
    "longest_transaction": "transaction.max.timeout.ms",
    "initial_rebalance_delay": "group.initial.rebalance.delay.ms",
}


async def broker_limits(client: AIOKafkaAdminClient) -> BrokerLimits:
    """Ask a broker for its limits; all of a cluster should have the same.

    Raises
    ------
    KafkaError
        It does not answer, or this client may not ask.
    """
    cluster: dict[str, Any] = await client.describe_cluster()
    node = cluster["brokers"][0]["node_id"]
    wanted = dict.fromkeys(_LIMITS.values())
    found: dict[str, str] = {}
    for response in await client.describe_configs([ConfigResource(ConfigResourceType.BROKER, str(node), wanted)]):
        for code, message, _, _, entries in response.resources:
            if code:
                raise for_code(code)(f"the settings of broker {node} cannot be read: {message}")
            found |= {entry[0]: entry[1] for entry in entries if entry[1] is not None}
    told = {field: timedelta(milliseconds=int(found[key])) for field, key in _LIMITS.items() if found.get(key, "").isdecimal()}
    return BrokerLimits(**told)


async def describe_brokers(client: AIOKafkaAdminClient) -> Brokers:
    """Count the brokers and tell their release, from what one of them speaks."""
    cluster: dict[str, Any] = await client.describe_cluster()
    inner = client._client  # the admin client asks each broker for its versions, and offers no way to read them
    node = inner.get_random_node()
    connection = next((open_ for (id_, _), open_ in inner._conns.items() if id_ == node), None)
    highest = connection._versions.get(_FETCH, (0, 0))[1] if connection is not None else 0
    newest = max(_FETCH_SINCE)
    # What the newest known release speaks, later ones may speak too.
    version = f"{_FETCH_SINCE[newest]} or newer" if highest >= newest else _FETCH_SINCE.get(highest, "older than 2.3")
    return Brokers(len(cluster["brokers"]), version)
