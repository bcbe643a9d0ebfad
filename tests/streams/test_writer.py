"""Transactions of one partition, on a real Kafka."""

import asyncio
import time
from collections.abc import Iterable
from typing import Any

import pytest
from aiokafka.structs import TopicPartition
from faust.types import TP

from schemas.settings import Settings
from streams import topics
from streams.kafka import client_options, consumer
from streams.lease import LeaseLost
from streams.table import Mark
from streams.topics import changelog_topic, writer_id
from streams.writer import PartitionWriter

pytestmark = pytest.mark.integration


class Table:
    """Stands in for the state table, and keeps what it was given."""

    def __init__(self) -> None:
        self.marks: list[Mark] = []

    def apply(self, partition: int, records: Iterable[tuple[bytes, bytes | None]], mark: Mark) -> None:
        self.marks.append(mark)


def writer_of(settings: Settings, table: Table, broken: list[BaseException]) -> PartitionWriter:
    return PartitionWriter(
        TP(changelog_topic(settings), 0),
        table,  # type: ignore[arg-type]
        transactional_id=writer_id(settings, 0),
        client=client_options(settings.kafka),
        transaction_timeout=60.0,
        max_request_size=1_000_000,
        limits={},
        on_broken=broken.append,
        on_commit=lambda count, seconds: None,
    )


async def test_a_writer_that_is_stopped_leaves_no_transaction_open(own_settings: Settings) -> None:
    await topics.create(own_settings)
    table, broken = Table(), list[BaseException]()
    writer = writer_of(own_settings, table, broken)
    await writer.start()
    commit, reached = writer._producer.commit_transaction, asyncio.Event()

    async def late() -> None:
        reached.set()
        await asyncio.sleep(0)
        await commit()

    writer._producer.commit_transaction = late
    under_way = asyncio.create_task(writer.write([(b"ea", b"x")], []))
    await reached.wait()
    queued = asyncio.create_task(writer.write([(b"eb", b"x")], []))
    await asyncio.sleep(0)
    await writer.stop()
    await under_way
    with pytest.raises(LeaseLost):
        await queued
    assert (broken, len(table.marks)) == ([], 1)
    place = TopicPartition(changelog_topic(own_settings), 0)
    ends = []
    for isolation in ("read_committed", "read_uncommitted"):
        async with consumer(own_settings.kafka, isolation_level=isolation) as reader:
            ends.append((await reader.end_offsets([place]))[place])
    assert ends[0] == ends[1] == 2  # the record and the marker


async def test_the_mark_of_a_transaction_names_its_last_record_as_the_log_has_it(own_settings: Settings) -> None:
    await topics.create(own_settings)
    tp, table, broken = TP(changelog_topic(own_settings), 0), Table(), list[BaseException]()
    writer = writer_of(own_settings, table, broken)
    await writer.start()
    send = writer._producer.send

    async def slowly(*about: Any, **options: Any) -> Any:
        time.sleep(0.003)  # noqa: ASYNC251 - nothing else may run: all records are to be in one batch, at different times
        return await send(*about, **options)

    writer._producer.send = slowly
    await asyncio.gather(*(writer.write([(b"e%d" % n, b"x")], []) for n in range(8)))
    await writer.stop()
    assert broken == []
    place = TopicPartition(*tp)
    async with consumer(own_settings.kafka, isolation_level="read_committed", auto_offset_reset="earliest") as reader:
        reader.assign([place])
        stored: dict[int, int] = {}
        while len(stored) < 8:
            stored |= {record.offset: record.timestamp for record in (await reader.getmany(timeout_ms=200)).get(place, ())}
    for mark in table.marks:
        assert stored[mark.offset] == mark.timestamp
    assert table.marks[-1].offset == max(stored)
