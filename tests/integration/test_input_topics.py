"""Inputs as other people's programs leave them: compacted, written in transactions, cut by retention before they were read."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import TopicPartition

from schemas.settings import Settings
from streams import topics
from streams.cluster import committed, describe, spans
from streams.dead_letters import from_headers
from streams.kafka import admin, client_options, producer
from streams.reading import read_topic
from tests.integration.conftest import Bench, at_least

pytestmark = pytest.mark.integration

CONFIG = """\
app = "{app}"
time = "replay"
kafka.bootstrap_servers = "{kafka}"
topics = {topics}
worker = {{ http_port = {port}, state_dir = "{state}" }}
model = {{ backend = "import", factory = "agents.models.scripted:from_settings" }}
observations.key = "entity"
truths.source = "next-observation"
rewrite.policy = "never"
target = {{ field = "t" }}
"""
PARTITIONS = 4
START = 1_700_000_000

Place = TopicPartition


def reading(entity: str, step: int, **fields: object) -> bytes:
    return orjson.dumps({"entity": entity, "id": f"{entity}-{step}", "time": START + 60 * step, "values": {"t": step}, **fields})


# --- looking from outside ---------------------------------------------------------------------------------------------------------


async def held(settings: Settings, topic: str) -> dict[Place, list[int]]:
    """Offsets of the records that a topic holds."""
    found: dict[Place, list[int]] = {}
    async with aclosing(read_topic(settings.kafka, topic)) as records:
        async for record in records:
            found.setdefault(Place(topic, record.partition), []).append(record.offset)
    return found


async def readable_ends(settings: Settings, topic: str) -> dict[Place, int]:
    """Where a reader of committed records comes to the end of each partition."""
    async with admin(settings.kafka) as client:
        places = [Place(topic, p) for p in range((await describe(client, [topic]))[topic].partitions)]
    return {place: span.end for place, span in (await spans(settings.kafka, places, isolation="read_committed")).items()}


async def positions(settings: Settings, topic: str) -> dict[Place, int]:
    """Where the worker's group stands; nowhere in a partition that never held anything."""
    async with admin(settings.kafka) as client:
        return {place: offset for place, offset in (await committed(client, settings.app)).items() if place.topic == topic}


async def until_read(bench: Bench, *names: str) -> None:
    """Wait until the group stands where a reader of committed records comes to the end."""

    async def read() -> bool:
        wanted = {place: end for name in names for place, end in (await readable_ends(bench.settings, name)).items() if end}
        return wanted == {place: offset for name in names for place, offset in (await positions(bench.settings, name)).items()}

    await bench.until_holds(f"positions at the ends of {', '.join(names)}", read)


async def lost(bench: Bench, role: str = "observations") -> float:
    return await bench.worker.series("palimpsest_processed_total", input=role, outcome="retention-lost")


async def no_lag(bench: Bench, *inputs: str) -> bool:
    """Whether the worker says that it has done everything; a partition that never held anything is not spoken of."""
    places = [(name, str(p)) for name in inputs for p in range(PARTITIONS)]
    lags = [await bench.worker.series("palimpsest_lag_records", input=name, partition=p) for name, p in places]
    return all(lag == 0 or math.isnan(lag) for lag in lags)


async def nothing_alarmed(bench: Bench) -> None:
    """The worker is the process that was started, lost nothing, and said nothing of the kind."""
    assert bench.worker.running
    assert await lost(bench) == await lost(bench, "truths") == 0
    written = bench.worker.log.read_text()
    assert "this worker ends" not in written
    assert "retention" not in written


# --- compaction -------------------------------------------------------------------------------------------------------------------

#: A segment holds the records of half a minute, and the cleaner takes all segments but the one that is written to.
COMPACTED = {
    "cleanup.policy": "compact",
    "segment.ms": "30000",
    "min.cleanable.dirty.ratio": "0.001",
    "min.compaction.lag.ms": "0",
    "retention.ms": "604800000",
}


async def compact_quickly(client: AIOKafkaAdminClient, node: str = "1") -> None:
    """Let the broker look for something to compact ten times a second; by default it does every 15 s."""
    await client.alter_configs([ConfigResource(ConfigResourceType.BROKER, node, {"log.cleaner.backoff.ms": "100"})])


async def send_steps(bench: Bench, steps: Iterable[int], entities: int) -> None:
    """Entity k falls silent after step k, so that compaction leaves one record here and one there."""
    async with producer(bench.settings.kafka) as out:
        for step in steps:
            sent = []
            for e in range(step, entities):
                at = (START + 60 * step) * 1000
                sent.append(await out.send(bench.settings.topics.observations, reading(f"e{e}", step), key=b"e%d" % e, timestamp_ms=at))
            # Segments are cut between batches.
            await asyncio.gather(*sent)


async def until_compacted(bench: Bench, sent: int) -> dict[Place, list[int]]:
    """Wait until compaction has taken most of the records that were sent, and takes no more; return what is left."""
    left: dict[Place, list[int]] = {}

    async def compacted() -> bool:
        nonlocal left
        before, left = left, await held(bench.settings, bench.settings.topics.observations)
        return left == before and sum(map(len, left.values())) < sent // 2

    await bench.until_holds("compaction", compacted)
    assert any(later - earlier > 1 for offsets in left.values() for earlier, later in pairwise(offsets))
    return left


async def test_a_compacted_input_is_read_without_a_false_alarm_across_a_restart(make_bench) -> None:
    bench = await make_bench(CONFIG, partitions=PARTITIONS, inputs=False)
    settings, topic = bench.settings, bench.settings.topics.observations
    async with admin(settings.kafka) as client:
        await compact_quickly(client)
        await client.create_topics([NewTopic(topic, PARTITIONS, 1, topic_configs=COMPACTED)])
        await topics.wait_until_known(client, [topic])
    entities, half = 40, 18
    await send_steps(bench, range(half), entities)
    first = await until_compacted(bench, sum(entities - step for step in range(half)))
    total = sum(map(len, first.values()))
    await bench.worker.start()
    await bench.until("predictions", partial(at_least, total))
    await until_read(bench, topic)
    await nothing_alarmed(bench)
    assert await bench.worker.stop() == 0
    stood = await positions(settings, topic)

    await send_steps(bench, range(half, entities), entities)
    left = await until_compacted(bench, sum(entities - step for step in range(half, entities)))
    assert any(stood[place] not in offsets for place, offsets in left.items()), "no position stands in a hole"
    await bench.worker.start()
    total += sum(offset >= stood[place] for place, offsets in left.items() for offset in offsets)
    await bench.until("predictions", partial(at_least, total))
    await until_read(bench, topic)
    await nothing_alarmed(bench)
    assert await bench.worker.stop() == 0
    predicted = Counter(p["id"] for p in await bench.messages("predictions"))
    assert len(predicted) == total
    assert set(predicted.values()) == {1}
    assert await bench.read("dead_letters") == []


# --- transactions -----------------------------------------------------------------------------------------------------------------

#: Predictions and truths that nothing answers give up after a second; the observations are read as they are, the truths re-keyed.
TRANSACTIONAL = """\
app = "{app}"
backlog = "all"
kafka.bootstrap_servers = "{kafka}"
topics = {topics}
worker = {{ http_port = {port}, state_dir = "{state}" }}
model = {{ backend = "import", factory = "agents.models.scripted:from_settings" }}
observations.key = "entity"
truths = {{ orphan_after = "1s", expire_after = "1s" }}
rewrite.policy = "never"
target = {{ field = "t", horizon = "1s" }}
"""
ENTITIES = [f"e{e}" for e in range(8)]


class Upstream:
    """A program that writes both inputs in transactions."""

    def __init__(self, settings: Settings, writer: AIOKafkaProducer) -> None:
        self._topics, self._writer = settings.topics, writer

    async def observe(self, name: str, step: int, *, commit: bool = True) -> None:
        now = datetime.now(UTC).isoformat()
        fields = {"time": now, "values": {"t": step}}
        records = [(e.encode(), orjson.dumps({"entity": e, "id": f"{name}-{e}-{step}", **fields})) for e in ENTITIES]
        await self._transact(self._topics.observations, records, commit=commit)

    async def answer(self, name: str, step: int, *, value: float, commit: bool = True) -> None:
        records = [(b"", orjson.dumps({"entity": e, "observation_id": f"{name}-{e}-{step}", "value": value})) for e in ENTITIES]
        await self._transact(self._topics.truths, records, commit=commit)

    async def begin(self, name: str, step: int) -> None:
        """An observation and a truth in a transaction that stays open."""
        await self._writer.begin_transaction()
        now = datetime.now(UTC).isoformat()
        observation = {"entity": "e0", "id": f"{name}-e0-{step}", "time": now, "values": {"t": step}}
        await self._send(self._topics.observations, [(b"e0", orjson.dumps(observation))])
        await self._send(self._topics.truths, [(b"", orjson.dumps({"entity": "e0", "observation_id": f"{name}-e0-{step}", "value": 1}))])

    async def end(self) -> None:
        await self._writer.commit_transaction()

    async def _transact(self, topic: str, records: Sequence[tuple[bytes, bytes]], *, commit: bool) -> None:
        await self._writer.begin_transaction()
        await self._send(topic, records)
        await (self._writer.commit_transaction() if commit else self._writer.abort_transaction())

    async def _send(self, topic: str, records: Sequence[tuple[bytes, bytes]]) -> None:
        await asyncio.gather(*[await self._writer.send(topic, value, key=key or None) for key, value in records])


@asynccontextmanager
async def upstream(settings: Settings, name: str) -> AsyncIterator[Upstream]:
    options = {"transactional_id": f"{settings.app}-{name}", "transaction_timeout_ms": 600_000}
    writer = AIOKafkaProducer(**client_options(settings.kafka), **options)
    await writer.start()
    try:
        yield Upstream(settings, writer)
    finally:
        await writer.stop()


async def test_inputs_written_in_transactions_take_effect_once_committed_and_are_read_past_their_last_markers(make_bench) -> None:
    bench = await make_bench(TRANSACTIONAL, partitions=PARTITIONS)
    names = bench.settings.topics

    async def write(program: Upstream, steps: range) -> None:
        for step in steps:
            await program.observe("aborted", step, commit=False)
            await program.observe("answered", step)
            await program.answer("answered", step, value=step)
            await program.answer("answered", step, value=-step - 1, commit=False)
        # What nothing answers, and what answers nothing; the ends of both topics are markers.
        await program.observe("unanswered", steps[-1])
        await program.answer("orphaned", steps[-1], value=0)
        await program.observe("aborted", steps[-1], commit=False)
        await program.answer("answered", steps[-1], value=-1, commit=False)

    async def done(predicted: int, orphaned: int) -> None:
        await bench.until("predictions", partial(at_least, predicted))
        await bench.until("outcomes", partial(at_least, predicted))
        await bench.until("dead_letters", partial(at_least, orphaned))
        await until_read(bench, names.observations, names.truths)
        await bench.until_holds("no lag", partial(no_lag, bench, "observations", "truths", "truths-source"))
        await nothing_alarmed(bench)

    first, second, count = range(4), range(4, 7), len(ENTITIES)
    async with upstream(bench.settings, "quick") as quick, upstream(bench.settings, "slow") as slow:
        await write(quick, first)
        await slow.begin("slow", 0)
        await bench.worker.start()
        # Open all the while: neither its records nor what waits for the ends of the inputs is held up by it.
        await done(count * (len(first) + 1), count)
        assert await bench.worker.stop() == 0
        await bench.worker.start()
        await slow.end()
        await write(quick, second)
        await done(count * (len(first) + len(second) + 2) + 1, 2 * count)
    assert await bench.worker.stop() == 0
    answered = {f"answered-{e}-{step}": step for e in ENTITIES for step in (*first, *second)} | {"slow-e0-0": 1}
    unanswered = [f"unanswered-{e}-{steps[-1]}" for e in ENTITIES for steps in (first, second)]
    assert Counter(p["id"] for p in await bench.messages("predictions")) == Counter([*answered, *unanswered])
    settled = {(o["prediction_id"], o["result"]): o.get("truth") for o in await bench.messages("outcomes")}
    assert settled == {(name, "matched"): value for name, value in answered.items()} | {(name, "missing"): None for name in unanswered}
    letters = await bench.read("dead_letters")
    assert [from_headers(letter.headers).reason for letter in letters] == ["orphan"] * 2 * count


# --- retention --------------------------------------------------------------------------------------------------------------------


async def delete_before(settings: Settings, starts: dict[Place, int]) -> None:
    """What retention does, at once: the log of each partition begins at that offset from now on."""
    async with admin(settings.kafka) as client:
        await client.delete_records({place: RecordsToDelete(offset) for place, offset in starts.items()})


async def test_what_retention_took_while_the_worker_was_away_is_counted_and_said_and_the_rest_is_predicted(make_bench) -> None:
    bench = await make_bench(CONFIG, partitions=PARTITIONS)
    topic, entities = bench.settings.topics.observations, [f"e{e}" for e in range(40)]

    async def send(steps: range) -> None:
        await bench.send("observations", [(e.encode(), reading(e, step), None) for step in steps for e in entities])

    await send(range(3))
    await bench.worker.start()
    await until_read(bench, topic)
    assert await bench.worker.stop() == 0
    stood = await positions(bench.settings, topic)
    await send(range(3, 6))
    ends = await readable_ends(bench.settings, topic)
    # Of one partition nothing is left, of the others a third, a half, and all.
    parts = dict(zip(sorted(stood), (1.0, 2 / 3, 1 / 2, 0.0), strict=True))
    starts = {place: stood[place] + int((ends[place] - stood[place]) * part) for place, part in parts.items()}
    await delete_before(bench.settings, starts)
    gone = sum(starts[place] - stood[place] for place in stood)

    await bench.worker.start()
    await until_read(bench, topic)
    await bench.until("predictions", partial(at_least, 6 * len(entities) - gone))
    assert await lost(bench) == gone > 0
    written = bench.worker.log.read_text()
    for place, start in starts.items():
        said = f"retention of {topic} overtook the position of partition {place.partition}: up to {start - stood[place]} records"
        assert (said in written) == (start > stood[place])
    assert "this worker ends" not in written
    assert await bench.worker.stop() == 0
    predicted = Counter(p["id"] for p in await bench.messages("predictions"))
    assert set(predicted.values()) == {1}
    assert len(predicted) == 6 * len(entities) - gone


#: Answers once a file is there.
GATED_MODEL = """\
import asyncio
import os
from agents.models.scripted import ScriptedModel, answer_from_schema

async def gate():
    while not os.path.exists(os.environ["GATE"]):
        await asyncio.sleep(0.02)

def model(settings):
    return ScriptedModel(answer_from_schema, latency=gate)
"""


async def test_what_retention_takes_from_a_running_worker_that_holds_its_partition_is_counted_and_the_rest_is_predicted(
    make_bench, tmp_path: Path
) -> None:
    (tmp_path / "gated.py").write_text(GATED_MODEL)
    config = CONFIG.replace("agents.models.scripted:from_settings", "gated:model").replace("{{ http_port", "{{ window = 8, http_port")
    bench = await make_bench(config, partitions=1)
    # More than the fetcher takes of a partition that is held (4 MiB at once), so that the rest is still in Kafka.
    count, left, padding = 2_000, 10, "x" * 10_000
    await bench.send("observations", [(b"e%d" % i, reading(f"e{i}", 0, padding=padding), None) for i in range(count)])
    await bench.worker.start(PYTHONPATH=f"{Path.cwd()}:{tmp_path}", GATE=str(tmp_path / "open"))

    async def full() -> bool:
        return await bench.worker.series("palimpsest_in_flight") == 8

    await bench.until_holds("a full window", full)
    await delete_before(bench.settings, {Place(bench.settings.topics.observations, 0): count - left})
    (tmp_path / "open").touch()
    await until_read(bench, bench.settings.topics.observations)
    predicted = Counter(p["id"] for p in await bench.messages("predictions"))
    assert set(predicted.values()) == {1}
    assert {f"e{i}-0" for i in range(count - left, count)} <= set(predicted)
    assert await lost(bench) == count - len(predicted) > 0
    assert bench.worker.running
    assert await bench.worker.stop() == 0
