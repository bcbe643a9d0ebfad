"""Many records share a transaction, as they share a batch of Faust's producer: what one of them does to the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from faust.types import TP

from streams.kafka import client_options
from streams.table import Mark
from streams.topics import changelog_topic, writer_id
from streams.writer import Output, PartitionWriter, RecordTooLarge
from tests.integration.faults.conftest import Scene
from tests.integration.undone import fails_without

pytestmark = pytest.mark.integration


class Table:
    """Stands in for the state table, and keeps what it was given."""

    def __init__(self) -> None:
        self.records: dict[bytes, bytes | None] = {}

    def apply(self, partition: int, records: Iterable[tuple[bytes, bytes | None]], mark: Mark) -> None:
        self.records |= dict(records)


@asynccontextmanager
async def a_writer(scene: Scene, table: Table, broken: list[BaseException]) -> AsyncIterator[PartitionWriter]:
    settings = scene.bench.settings
    writer = PartitionWriter(
        TP(changelog_topic(settings), 0),
        table,  # type: ignore[arg-type]
        transactional_id=writer_id(settings, 0),
        client=client_options(settings.kafka),
        transaction_timeout=60.0,
        max_request_size=8_000_000,
        limits={settings.topics.predictions: 1_048_588},
        on_broken=broken.append,
        on_commit=lambda count, seconds: None,
    )
    await writer.start()
    try:
        yield writer
    finally:
        await writer.stop()


@fails_without("size-check", "LeaseLost('the transaction failed: MessageSizeTooLargeError()')")
async def test_one_record_too_large_does_not_take_its_neighbours_with_it(scene: Scene) -> None:
    table, broken, topic = Table(), [], scene.bench.settings.topics.predictions
    sizes = {b"before": 10, b"large": 2_000_000, b"after": 10}
    async with a_writer(scene, table, broken) as writer:
        writes = (writer.write([(key, b"x")], [Output(topic, key, b"x" * size)]) for key, size in sizes.items())
        before, large, after = await asyncio.gather(*writes, return_exceptions=True)
    assert (before, after) == (None, None)
    assert isinstance(large, RecordTooLarge)
    assert [record.key for record in await scene.bench.read("predictions")] == [b"before", b"after"]
    assert table.records == {b"before": b"x", b"after": b"x"}
    assert broken == []


@fails_without("shield", "the writer has ended")
async def test_a_lane_that_is_cancelled_while_it_waits_for_its_transaction_takes_nobody_with_it(scene: Scene) -> None:
    table, broken = Table(), []
    committing, go_on = asyncio.Event(), asyncio.Event()
    async with a_writer(scene, table, broken) as writer:
        commit = writer._producer.commit_transaction

        async def held() -> Any:
            committing.set()
            await go_on.wait()
            return await commit()

        writer._producer.commit_transaction = held
        keys = [b"first", b"cancelled", b"last"]
        lanes = {key: asyncio.create_task(writer.write([(key, b"x")], [])) for key in keys}
        await committing.wait()
        lanes[b"cancelled"].cancel()
        go_on.set()
        all_ended = asyncio.gather(*lanes.values(), return_exceptions=True)
        await asyncio.wait([all_ended, writer._task], return_when=asyncio.FIRST_COMPLETED)
        assert not writer._task.done(), "the writer has ended, and with it everything that is still to be written"
        first, cancelled, last = await all_ended
        assert (first, last) == (None, None)
        assert isinstance(cancelled, asyncio.CancelledError)
        await writer.write([(b"later", b"x")], [])
    assert set(table.records) == {*keys, b"later"}
    assert broken == []
