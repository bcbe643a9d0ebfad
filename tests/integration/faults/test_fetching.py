"""What Faust's fetcher does beside delivering: it takes held partitions up again, keeps every jump, and polls nothing if all are held."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord
from faust.types import TP
from mode import Service
from prometheus_client import CollectorRegistry

from schemas.settings import Settings
from streams.app import PalimpsestApp, build_app
from streams.cluster import TopicState
from streams.metrics import Metrics
from streams.topics import Survey, topic_plan
from tests.integration.faults.conftest import Scene


@pytest.fixture
def app(tmp_path: Path) -> PalimpsestApp:
    """An application that is not connected."""
    settings = Settings(app="unconnected", worker={"state_dir": tmp_path})
    plan = topic_plan(settings)
    survey = Survey(tuple(plan), {spec.name: TopicState(spec.name, spec.partitions, spec.replication) for spec in plan})
    return build_app(settings, None, Metrics(CollectorRegistry(), settings), survey, _never, url="http://127.0.0.1:1")  # type: ignore[arg-type]


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


def _never(error: BaseException) -> None:
    raise error


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
async def test_a_worker_whose_partitions_were_all_held_for_hours_rejoins_its_group(scene: Scene) -> None:
    await scene.start(**scene.stage().directions(idle_hours=3))
    await scene.freeze(scene.worker)
    scene.worker.signal(signal.SIGCONT)
    await scene.observe(("a", "a0"))
    await scene.until_predicted("a0")
