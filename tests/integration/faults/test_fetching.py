"""What the fetcher does beside delivering: held partitions come back, every jump is kept, one partition holds up all, nothing is polled."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord, TopicPartition
from faust.types import TP
from mode import Service

from streams.app import PalimpsestApp
from streams.kafka import consumer as kafka_consumer
from tests.integration.faults.conftest import CONFIG, Scene, until
from tests.integration.undone import fails_without


@fails_without("held-partitions", "assert {TP(topic='observations', partition=0)} == set()")
async def test_a_partition_that_is_held_stays_held_when_fausts_queue_empties(app: PalimpsestApp) -> None:
    tp, consumer = TP(app.settings.topics.observations, 0), app.consumer
    consumer._set_active_tps({tp})
    app.flow_control.resume()
    channel = app.topic(tp.topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
    deliver = app.topics._build_handler(tp, {channel})
    for offset in range(app.conf.stream_buffer_maxsize):
        await deliver(consumer._to_message(tp, _record(tp, offset)))
    assert consumer._active_partitions == set()
    consumer.hold(tp)
    while not channel.queue.empty():
        channel.queue.get_nowait()
    assert consumer._active_partitions == set()
    consumer.release(tp)
    assert consumer._active_partitions == {tp}


def _record(tp: TP, offset: int) -> ConsumerRecord[bytes, bytes]:
    return ConsumerRecord(tp.topic, tp.partition, offset, 0, 0, b"k", b"v", None, 1, 1, ())


@fails_without("gaps", "assert 32 == 0")
async def test_jumps_in_offsets_are_not_kept(app: PalimpsestApp) -> None:
    tp, consumer = TP(app.settings.topics.observations, 0), app.consumer
    fetcher = Service()
    delivered = []

    async def getmany(timeout: float) -> AsyncIterator[tuple[TP, Any]]:
        for offset in range(1, 100, 3):
            yield tp, consumer._to_message(tp, _record(tp, offset))
        fetcher._stopped.set()

    async def deliver(message: Any) -> None:
        delivered.append(message.offset)

    app.topics._acking_topics.add(tp.topic)
    consumer.getmany, consumer.callback = getmany, deliver
    await consumer._drain_messages(fetcher)
    assert delivered == list(range(1, 100, 3))
    assert sum(map(len, consumer._gap.values())) == 0


@pytest.mark.integration
@fails_without("turns", "assert 1 == 2")
async def test_partitions_take_turns_however_much_waits_in_one(app: PalimpsestApp, make_bench: Any) -> None:
    bench = await make_bench(CONFIG, partitions=2)
    topic, thread = bench.settings.topics.observations, app.consumer._new_consumer_thread()
    await bench.send("observations", [(b"k", b"v", partition) for partition in (0, 1) for _ in range(100)])
    places = [TopicPartition(topic, partition) for partition in (0, 1)]
    async with kafka_consumer(bench.settings.kafka, auto_offset_reset="earliest") as consumer:
        consumer.assign(places)

        async def all_wait() -> bool:
            return set(consumer._fetcher._records) == set(places)

        await until(bench.worker, all_wait)
        fetched = [await thread._fetch_records(consumer, set(places), timeout=0.0, max_records=10) for _ in range(2)]
    assert len({tp for records in fetched for tp in records}) == len(places)


@pytest.mark.integration
@fails_without("poll-interval", "waited in vain; 0 records in predictions")
async def test_a_worker_whose_partitions_were_all_held_for_hours_rejoins_its_group(scene: Scene) -> None:
    stage = scene.stage()
    await scene.start(**stage.directions(idle_hours=3))
    stage.release("idle")
    await scene.freeze(scene.worker)
    scene.worker.signal(signal.SIGCONT)
    await scene.observe(("a", "a0"))
    await scene.until_predicted("a0")
