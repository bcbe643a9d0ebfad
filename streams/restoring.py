"""Bringing RocksDB up to the changelog: before partitions are worked on, and all the time where this worker stands by for them.

Faust reads changelogs record by record through its queues, at a few thousand records a second. Here a consumer of its own reads them in
batches, committed records only, and each batch is one atomic write to RocksDB. It begins where RocksDB's mark stands, so a
worker that comes back reads what it missed and nothing else.

A partition is rebuilt from the beginning of the log where its mark cannot be trusted:

- the record that the mark names is not in the log any more, or another one is in its place (the topic was made anew, or
  compaction has passed);
- the mark is older than the time for which the log keeps deletions (`delete.retention.ms`): an entity that was forgotten
  meanwhile would live on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord, TopicPartition
from tenacity import AsyncRetrying, before_sleep_log, retry_if_exception_type, wait_exponential_jitter

from schemas.settings import KafkaSettings
from streams.errors import KafkaUnavailable
from streams.kafka import consumer
from streams.table import Mark, StateTable

log = logging.getLogger(__name__)

#: Records of a batch at most; each is one write to RocksDB, during which the event loop stands still.
BATCH = 2_000
#: Bytes that one partition may send at once.
FETCH_BYTES = 4 * 1024 * 1024
#: Milliseconds that a fetch waits for more. The end of a transaction is an offset that is never delivered, so restoring waits once.
POLL = 100
#: A partition that has nothing to read is noted as current so many times within the log's `delete.retention.ms`.
TOUCHES = 100
#: Seconds between two lines in the log while state is restored.
TELL_EVERY = 5.0


@dataclass(slots=True)
class Progress:
    """How far a partition is restored, in offsets.

    Attributes
    ----------
    begin
        First offset of the log.
    start, position, end
        Where reading began, the next offset to read, and one past the last.
    expected
        What RocksDB goes to, until the log was seen to hold it.
    """

    begin: int
    start: int
    position: int
    end: int
    expected: Mark | None


class Restoration:
    """Reads changelog partitions into the table."""

    def __init__(
        self,
        settings: KafkaSettings,
        table: StateTable,
        topic: str,
        *,
        delete_retention_ms: int,
        clock: Callable[[], int],
        on_broken: Callable[[BaseException], None],
    ) -> None:
        """
        Parameters
        ----------
        delete_retention_ms
            The changelog's `delete.retention.ms`.
        clock
            Milliseconds since the epoch.
        on_broken
            Called when standing by has failed for another reason than Kafka.
        """
        self._on_broken = on_broken
        self._settings, self._table, self._topic = settings, table, topic
        self._delete_retention, self._clock = delete_retention_ms, clock
        #: By partition, of those that are restored, were last, or are stood by for.
        self.progress: dict[int, Progress] = {}
        self.restoring = False
        self._following: asyncio.Task[None] | None = None

    async def restore(self, ends: Mapping[int, int]) -> None:
        """Bring partitions up to the offsets `ends` (one past the last record); returns when all are there.

        Raises
        ------
        KafkaUnavailable, KafkaError
            Kafka does not answer, or refuses.
        """
        self.restoring, self.progress = True, {}
        began = told = time.monotonic()
        read = 0
        try:
            async with self._reader(ends) as reader:
                await self._begin(reader, ends)
                while waiting := [self._place(p) for p in ends if self._wants_more(reader, p)]:
                    for tp, records in (await reader.getmany(*waiting, timeout_ms=POLL, max_records=BATCH)).items():
                        read += self._take(reader, tp, [record for record in records if record.offset < ends[tp.partition]])
                    await self._advance(reader, ends)
                    if time.monotonic() - told >= TELL_EVERY:
                        told = time.monotonic()
                        self._tell(read, told - began)
            for partition in ends:
                self._table.touch(partition, self._clock())
        finally:
            self.restoring = False
        seconds = time.monotonic() - began
        log.info("restored %d partitions: %d records in %.1f s (%.0f/s)", len(ends), read, seconds, read / max(seconds, 1e-3))

    def follow(self, partitions: Iterable[int]) -> None:
        """Stand by for partitions: keep them up to the log until `stop_following`, whatever Kafka does meanwhile."""
        self.stop_following()
        wanted = sorted(partitions)
        if wanted:
            self._following = asyncio.create_task(self._follow(wanted), name="standby")
            self._following.add_done_callback(self._ended)

    def stop_following(self) -> None:
        """Leave the partitions as they are; nothing is written to them after this call."""
        task, self._following = self._following, None
        if task is not None:
            task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_broken(error)

    async def _follow(self, partitions: Sequence[int]) -> None:
        attempts = AsyncRetrying(
            retry=retry_if_exception_type((KafkaUnavailable, KafkaError)),
            wait=wait_exponential_jitter(multiplier=0.5, max=30.0),
            before_sleep=before_sleep_log(log, logging.WARNING),
        )
        async for attempt in attempts:
            with attempt:
                await self._follow_once(partitions)

    async def _follow_once(self, partitions: Sequence[int]) -> None:
        places = [self._place(p) for p in partitions]
        async with self._reader(partitions) as reader:
            await self._begin(reader, {tp.partition: end for tp, end in (await reader.end_offsets(places)).items()})
            while True:
                for tp, records in (await reader.getmany(timeout_ms=POLL, max_records=BATCH)).items():
                    self._take(reader, tp, records)
                await self._advance(reader, partitions)
                for place in places:
                    self._note_current(place.partition, reader.highwater(place))

    def _note_current(self, partition: int, highwater: int | None) -> None:
        progress, now = self.progress[partition], self._clock()
        progress.end = max(progress.position, highwater or 0)
        mark = self._table.mark(partition)
        if progress.position >= progress.end and mark is not None and now - mark.current_at > self._delete_retention // TOUCHES:
            self._table.touch(partition, now)

    def _place(self, partition: int) -> TopicPartition:
        return TopicPartition(self._topic, partition)

    @asynccontextmanager
    async def _reader(self, partitions: Iterable[int]) -> AsyncIterator[AIOKafkaConsumer]:
        options = {"isolation_level": "read_committed", "auto_offset_reset": "none", "max_partition_fetch_bytes": FETCH_BYTES}
        async with consumer(self._settings, **options) as reader:
            reader.assign([self._place(p) for p in partitions])
            yield reader

    async def _begin(self, reader: AIOKafkaConsumer, ends: Mapping[int, int]) -> None:
        """Place the reader on the record that RocksDB goes to; empty a partition's RocksDB where that cannot be in the log."""
        places = [self._place(p) for p in ends]
        begins = await reader.beginning_offsets(places) if places else {}
        for tp in places:
            partition, begin, mark = tp.partition, begins[tp], self._table.mark(tp.partition)
            if mark is not None and (reason := self._stale(mark, begin, ends[partition])):
                self._distrust(partition, reason)
                mark = None
            start = begin if mark is None else mark.offset
            reader.seek(tp, start)
            self.progress[partition] = Progress(begin, start, start, ends[partition], mark)

    def _stale(self, mark: Mark, begin: int, end: int) -> str:
        age, hour = self._clock() - mark.current_at, 3_600_000
        if age > self._delete_retention:
            kept = self._delete_retention / hour
            return f"what is here was last current {age / hour:.3g} h ago, and the log keeps deletions for {kept:.3g} h"
        if not begin <= mark.offset < end:
            return f"what is here goes to offset {mark.offset}, and the log holds {begin} to {end - 1}"
        return ""

    def _distrust(self, partition: int, reason: str) -> None:
        log.warning("partition %d is rebuilt from its changelog: %s", partition, reason)
        self._table.clear(partition)

    def _wants_more(self, reader: AIOKafkaConsumer, partition: int) -> bool:
        """Whether a partition is still to be read; one that came to its end without the expected record begins anew."""
        progress = self.progress[partition]
        if progress.position < progress.end:
            return True
        if progress.expected is None:
            return False
        self._begin_anew(reader, partition)
        return True

    def _begin_anew(self, reader: AIOKafkaConsumer, partition: int) -> None:
        progress = self.progress[partition]
        assert progress.expected is not None
        self._distrust(partition, f"the record at offset {progress.expected.offset} that it goes to is not in the log any more")
        reader.seek(self._place(partition), progress.begin)
        self.progress[partition] = Progress(progress.begin, progress.begin, progress.begin, progress.end, None)

    def _take(self, reader: AIOKafkaConsumer, tp: TopicPartition, records: Sequence[ConsumerRecord]) -> int:
        """Write records to RocksDB, the expected one left out; return how many."""
        progress = self.progress[tp.partition]
        if not records:
            return 0
        if progress.expected is not None:
            first = records[0]
            if (first.offset, first.timestamp) != progress.expected[:2]:
                self._begin_anew(reader, tp.partition)
                return 0
            progress.expected, records = None, records[1:]
        if records:
            last = records[-1]
            self._table.apply(tp.partition, [(r.key, r.value) for r in records], Mark(last.offset, last.timestamp, self._clock()))
        return len(records)

    async def _advance(self, reader: AIOKafkaConsumer, partitions: Iterable[int]) -> None:
        for partition in partitions:
            self.progress[partition].position = await reader.position(self._place(partition))

    def _tell(self, read: int, seconds: float) -> None:
        left = sum(max(0, p.end - p.position) for p in self.progress.values())
        whole = sum(p.end - p.start for p in self.progress.values())
        log.info("restoring state: %d records read (%.0f/s), %d of %d offsets to go", read, read / seconds, left, whole)
