"""The changelog as it is at one moment, read partition by partition; of transactions only what was committed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord, TopicPartition

from schemas.settings import Settings
from streams.cluster import Span, describe
from streams.errors import TopicsUnfit
from streams.findings import Finding
from streams.kafka import admin, consumer
from streams.topics import changelog_topic

#: Records handed on at once, bytes that a partition may send at once, and milliseconds that a fetch waits for more: the end of a
#: transaction is an offset that is never delivered, so a partition waits once.
_BATCH, _FETCH, _POLL = 2_000, 4 * 1024 * 1024, 100


class Changelog:
    """An open changelog.

    Attributes
    ----------
    topic
        Its name.
    spans
        The offsets that each partition held when it was opened, open transactions left out. Nothing beyond them is read.
    """

    def __init__(self, reader: AIOKafkaConsumer, topic: str, spans: Mapping[int, Span]) -> None:
        self._reader, self.topic, self.spans = reader, topic, dict(spans)

    @property
    def partitions(self) -> int:
        return len(self.spans)

    @property
    def offsets(self) -> int:
        """How many offsets there are to read, over all partitions; what was compacted counts too."""
        return sum(span.end - span.start for span in self.spans.values())

    async def renew(self, partition: int) -> None:
        """Take in what a partition got since."""
        place = TopicPartition(self.topic, partition)
        ends = await self._reader.end_offsets([place])
        self.spans[partition] = self.spans[partition]._replace(end=ends[place])

    async def read(self, partition: int) -> AsyncGenerator[Sequence[ConsumerRecord], None]:
        """Yield one partition's records in batches, in order. One partition at a time."""
        place, (start, end) = TopicPartition(self.topic, partition), self.spans[partition]
        # Paused and resumed, not assigned one by one: aiokafka 0.14.0 may hang when it is closed soon after a second assignment
        # (`Fetcher.close`: the routine takes its own cancellation for that of a fetch).
        self._reader.pause(*self._reader.assignment())
        self._reader.resume(place)
        self._reader.seek(place, start)
        while await self._reader.position(place) < end:
            fetched = await self._reader.getmany(place, timeout_ms=_POLL, max_records=_BATCH)
            records = [record for record in fetched.get(place, ()) if record.offset < end]
            if records:
                yield records


@asynccontextmanager
async def open_changelog(settings: Settings) -> AsyncIterator[Changelog]:
    """The changelog of the settings' application.

    Raises
    ------
    KafkaUnavailable
        Kafka does not answer.
    TopicsUnfit
        There is no changelog.
    """
    topic = changelog_topic(settings)
    async with admin(settings.kafka) as client:
        state = (await describe(client, [topic])).get(topic)
    if state is None:
        text = f"the topic does not exist: the application {settings.app} has no states."
        raise TopicsUnfit([Finding("fail", topic, "missing", text, "Is `app` right in the settings?")])
    options = {"isolation_level": "read_committed", "auto_offset_reset": "earliest", "max_partition_fetch_bytes": _FETCH}
    async with consumer(settings.kafka, **options) as reader:
        places = [TopicPartition(topic, n) for n in range(state.partitions)]
        reader.assign(places)
        reader.pause(*places)
        starts, ends = await reader.beginning_offsets(places), await reader.end_offsets(places)
        yield Changelog(reader, topic, {place.partition: Span(starts[place], ends[place]) for place in places})
