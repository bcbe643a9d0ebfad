"""An application at rest: nobody of its group is there, and nobody who was can still write.

Whoever changes states from outside makes sure of both. The group's coordinator knows the members; but a worker that was frozen or cut off
is a member no more, and could go on where it stopped. Starting a producer under the name of each partition's writer ends that.
"""

from __future__ import annotations

import asyncio

from aiokafka.admin import AIOKafkaAdminClient

from schemas.settings import Settings
from schemas.times import format_duration
from streams.errors import StatesInUse
from streams.kafka import producer
from streams.membership import describe_group
from streams.state.store import find_stores, is_open
from streams.topics import changelog_topic, writer_id

#: Writers that are fenced at once.
_AT_ONCE = 16


async def require_rest(client: AIOKafkaAdminClient, settings: Settings) -> None:
    """Refuse if the application has workers.

    Raises
    ------
    StatesInUse
        The group has members, or a process has this machine's RocksDB open.
    """
    group = await describe_group(client, settings.app, changelog_topic(settings))
    if group.members:
        who = ", ".join(sorted({member.url or f"{member.id} on {member.host}" for member in group.members}))
        number = f"{len(group.members)} member" + ("s" if len(group.members) > 1 else "")
        raise StatesInUse(
            f"the group {settings.app} has {number}: {who}. Stop the workers, and what starts them again. One that was killed, or has an "
            f"instance_id, stays a member until its session ends ({format_duration(settings.worker.session_timeout)})."
        )
    if taken := [path for path in find_stores(settings).values() if is_open(path)]:
        raise StatesInUse(f"a process has {taken[0]} open: stop the worker that does (is it frozen, or cut off from Kafka?).")


async def fence(settings: Settings, partitions: int) -> None:
    """Take the right to write from every worker that may still think it has it, and abort what it left open."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def take(partition: int) -> None:
        async with slots, producer(settings.kafka, transactional_id=writer_id(settings, partition)):
            pass

    await asyncio.gather(*(take(partition) for partition in range(partitions)))
