"""Is a jump in offsets the log's own, or a hole?  Settled by reading the log with a second consumer.

Inputs may be compacted or written in transactions, so offsets jump by right; and retention may have taken what a committed
position still points to. Asked only where a lease begins, where nothing else could tell.
"""

from __future__ import annotations

import asyncio

from aiokafka import TopicPartition

from schemas.settings import KafkaSettings
from streams.kafka import consumer

#: Seconds to read across the jump.
TIMEOUT = 30.0
#: Milliseconds for which one request waits for more.
_POLL = 200


async def first_offset_in(
    settings: KafkaSettings, topic: str, partition: int, start: int, end: int, *, timeout: float = TIMEOUT
) -> int | None:
    """Offset of the first record that a reader gets from `start` on and before `end`, committed records only; None if there is none.

    Parameters
    ----------
    end
        Not above the partition's last stable offset: a reader does not get past that.

    Raises
    ------
    TimeoutError
        The broker did not send what lies between.
    """
    if start >= end:
        return None
    place = TopicPartition(topic, partition)
    async with consumer(settings, isolation_level="read_committed", auto_offset_reset="earliest") as reader, asyncio.timeout(timeout):
        reader.assign([place])
        reader.seek(place, start)
        while await reader.position(place) < end:
            for records in (await reader.getmany(place, timeout_ms=_POLL, max_records=1)).values():
                for record in records:
                    return int(record.offset) if record.offset < end else None
    return None
