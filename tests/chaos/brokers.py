"""Which broker to kill: the one that leads most of what the workers write, or the one that coordinates their group."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from typing import Literal

from aiokafka.errors import KafkaError

from deploy.services import KafkaCluster
from schemas.settings import Settings
from streams import topics
from streams.errors import KafkaUnavailable
from streams.kafka import admin

Role = Literal["partition leader", "group coordinator"]

#: Seconds between two looks at the replicas.
LOOK = 0.5
_GROUP = 0


class Brokers:
    """The cluster's brokers, as something to break.

    `whole` first: with two of three replicas in sync, a second death would stop what asks for two.
    """

    def __init__(self, cluster: KafkaCluster, settings: Settings) -> None:
        self._cluster, self._settings = cluster, settings

    async def find(self, role: Role) -> int:
        """The broker of a role."""
        async with admin(self._settings.kafka) as client:
            if role == "group coordinator":
                return int(await client.find_coordinator(self._settings.app, _GROUP))
            changelog = topics.changelog_topic(self._settings)
            (topic,) = [found for found in await client.describe_topics() if found["topic"] == changelog]
        return int(Counter(partition["leader"] for partition in topic["partitions"]).most_common(1)[0][0])

    async def kill(self, broker: int) -> None:
        await self._cluster.stop_node(broker, signal.SIGKILL)

    async def start(self, broker: int) -> None:
        await self._cluster.start_node(broker)

    async def whole(self) -> None:
        """Return when every replica of every topic is in sync."""
        while not await self._is_whole():  # noqa: ASYNC110 - Kafka announces nothing
            await asyncio.sleep(LOOK)

    async def _is_whole(self) -> bool:
        try:
            async with admin(self._settings.kafka) as client:
                found = await client.describe_topics()
        except (KafkaError, KafkaUnavailable):
            return False
        return all(len(partition["isr"]) == len(partition["replicas"]) for topic in found for partition in topic["partitions"])
