"""Is a jump in delivered offsets the log's own, or a hole?  Settled by reading the log with a second consumer.

Inputs may be compacted or written in transactions, so offsets jump by right; and retention may have taken what a committed
position still points to. Asked only at the first record of a lease, where nothing else could tell.
"""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.settings import KafkaSettings
from streams.kafka import consumer

#: Seconds to wait for the record; it is known to be there.
TIMEOUT = 30.0


async def first_offset_from(settings: KafkaSettings, topic: str, partition: int, offset: int, *, timeout: float = TIMEOUT) -> int:
    """Offset of the first record that a reader gets from `offset` on, committed records only.

    Raises
    ------
    TimeoutError
        The broker did not send one.
    """
    async with consumer(settings, isolation_level="read_committed", auto_offset_reset="earliest") as reader:
        return await _first(reader, TopicPartition(topic, partition), offset, timeout)


async def _first(reader: AIOKafkaConsumer, tp: TopicPartition, offset: int, timeout: float) -> int:
    reader.assign([tp])
    reader.seek(tp, offset)
    batches = await reader.getmany(tp, timeout_ms=int(timeout * 1000), max_records=1)
    for records in batches.values():
        for record in records:
            return int(record.offset)
    raise TimeoutError(f"{tp.topic}/{tp.partition}: no record at or after offset {offset}")
