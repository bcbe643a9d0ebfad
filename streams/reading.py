"""Reading a topic from its beginning to the end it has now, for commands that show what is in it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection

from aiokafka.structs import ConsumerRecord, TopicPartition

from schemas.settings import KafkaSettings
from streams.cluster import describe
from streams.errors import TopicsUnfit
from streams.findings import Finding
from streams.kafka import admin, consumer

#: Milliseconds to wait for more. Only the end of a transaction, which is never delivered, can make it wait at all.
_POLL = 200


async def read_topic(
    settings: KafkaSettings, topic: str, partitions: Collection[int] | None = None, *, last: int | None = None
) -> AsyncGenerator[ConsumerRecord, None]:
    """Yield the committed records that a topic holds now, in order within each partition.

    Leave it through `contextlib.aclosing` where the loop may end early.

    Parameters
    ----------
    partitions
        Which; all if None.
    last
        Only so many offsets before the end of each partition.

    Raises
    ------
    KafkaUnavailable
        Kafka does not answer.
    TopicsUnfit
        The topic does not exist.
    """
    async with admin(settings) as client:
        state = (await describe(client, [topic])).get(topic)
    if state is None:
        raise TopicsUnfit([Finding("fail", topic, "missing", "the topic does not exist.", "Is its name right? `palimpsest topics check`")])
    wanted = [TopicPartition(topic, n) for n in (range(state.partitions) if partitions is None else partitions)]
    async with consumer(settings, isolation_level="read_committed", auto_offset_reset="earliest") as reader:
        starts, ends = await reader.beginning_offsets(wanted), await reader.end_offsets(wanted)
        reader.assign(wanted)
        for partition in wanted:
            start = starts[partition]
            reader.seek(partition, start if last is None else max(start, ends[partition] - last))
        waiting = [partition for partition in wanted if starts[partition] < ends[partition]]
        while waiting:
            for partition, records in (await reader.getmany(*waiting, timeout_ms=_POLL)).items():
                for record in records:
                    if record.offset < ends[partition]:
                        yield record
            waiting = [partition for partition in waiting if await reader.position(partition) < ends[partition]]
