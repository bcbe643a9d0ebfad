"""Two hours of observations and truths that waited while the worker was down are learned from as if it had been running."""

import asyncio
import math
import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import orjson
import pytest

from streams.app import POLL_RECORDS, state_topic
from streams.cluster import committed as group_positions
from streams.intake import HOLD_AT
from streams.kafka import admin, producer
from streams.partitioner import partition_of
from tests.integration.conftest import Bench

pytestmark = pytest.mark.integration

#: A worker that took the wall clock for the time of what it reads would expire most predictions, and call their truths orphans; one that
#: read its inputs as they come would run out of room for truths that are early.
CONFIG = """\
app = "{app}"
kafka.bootstrap_servers = "{kafka}"
topics = {topics}
backlog = "BACKLOG"
worker = {{ http_port = {port}, state_dir = "{state}" }}
model = {{ backend = "import", factory = "agents.models.scripted:from_settings" }}
observations.key = "OBSERVATIONS"
truths = {{ key = "TRUTHS", expire_after = "10m", orphan_after = "2s" }}
bounds.early = 8
rewrite.policy = "never"
target = {{ field = "t", horizon = "5m" }}
"""
PARTITIONS = 4
OUTAGE, HORIZON = timedelta(hours=2), timedelta(minutes=5)
#: Seconds between two observations of an entity.
EVERY = {"busy": 45, "brisk": 90, **{f"e{i}": 180 for i in range(4)}}
#: One entity of each partition.
SENTINELS = [next(name for i in range(1_000) if partition_of((name := f"s{i}").encode(), PARTITIONS) == p) for p in range(PARTITIONS)]

#: What an entity's records have as key. Of plants one is busy, so that partitions have unlike numbers of records.
KEYS: dict[str, Callable[[str], bytes | None]] = {
    "entity": lambda entity: entity.encode(),
    "plant": lambda entity: b"north" if entity == "busy" else b"south",
    "none": lambda entity: None,
}


class Sent(NamedTuple):
    """A record of an input, and when it was written."""

    at: datetime
    role: str
    entity: str
    value: bytes


def observation(entity: str, step: int, time: datetime) -> Sent:
    fields = {"entity": entity, "id": f"{entity}-{step}", "time": time.isoformat(), "values": {"t": float(step)}}
    return Sent(time, "observations", entity, orjson.dumps(fields))


def truth(entity: str, step: int, at: datetime) -> Sent:
    return Sent(at, "truths", entity, orjson.dumps({"entity": entity, "observation_id": f"{entity}-{step}", "value": step + 0.5}))


def history(chance: random.Random, began: datetime, ended: datetime) -> list[Sent]:
    """What came in between two moments, in the order in which it came."""
    records = []
    for entity, seconds in EVERY.items():
        time, step = began + timedelta(seconds=chance.uniform(0, seconds)), 0
        while time < ended:
            records.append(observation(entity, step, time))
            # Minutes after the moment that was forecast, and so past later observations and, one time or another, past later truths.
            arrived = time + HORIZON + timedelta(seconds=chance.uniform(60, 240))
            if arrived < ended:
                records.append(truth(entity, step, arrived))
            time, step = time + timedelta(seconds=seconds), step + 1
    return sorted(records)


async def send(bench: Bench, records: list[Sent], keyed: dict[str, str]) -> None:
    """Write records with the timestamps that they had."""
    async with producer(bench.settings.kafka, linger_ms=20) as out:
        sent = []
        for record in records:
            topic, key = getattr(bench.settings.topics, record.role), KEYS[keyed[record.role]](record.entity)
            partition = None if key is None else partition_of(key, PARTITIONS)
            sent.append(await out.send(topic, record.value, key=key, partition=partition, timestamp_ms=int(record.at.timestamp() * 1000)))
        await asyncio.gather(*sent)


@pytest.mark.parametrize(
    ("observations", "truths", "backlog"),
    [
        ("entity", "entity", "all"),
        ("entity", "entity", "conflate"),
        ("plant", "plant", "all"),
        ("none", "none", "all"),
        ("none", "entity", "conflate"),
    ],
)
async def test_two_hours_of_both_inputs_that_waited_are_matched_and_nothing_expires_or_is_orphaned_but_what_would_have_been(
    make_bench, observations: str, truths: str, backlog: str
) -> None:
    keyed = {"observations": observations, "truths": truths}
    modes = {role: "entity" if key == "entity" else "any" for role, key in keyed.items()}
    config = CONFIG.replace("OBSERVATIONS", modes["observations"]).replace("TRUTHS", modes["truths"]).replace("BACKLOG", backlog)
    bench = await make_bench(config, partitions=PARTITIONS)
    seed = random.randrange(10**6)
    now = datetime.now(UTC)
    records = history(random.Random(seed), now - OUTAGE, now)
    before, waiting = records[:20], records[20:]
    count = Counter(record.role for record in records)
    # What nothing answers expires, and what answers nothing is an orphan: in each partition, and once everything is read.
    waiting += [observation(entity, 0, before[-1].at) for entity in SENTINELS] + [truth(entity, 1, before[-1].at) for entity in SENTINELS]
    waiting.sort()

    async def truths_that_are(outcome: str) -> float:
        return await bench.worker.series("palimpsest_truths_total", outcome=outcome)

    async def observed() -> bool:
        return await bench.worker.series("palimpsest_processed_total", input="observations", outcome="applied") > 0

    async def settled() -> bool:
        through = await truths_that_are("matched") + await truths_that_are("orphan")
        return through >= count["truths"] + PARTITIONS and await truths_that_are("missing") >= PARTITIONS

    await send(bench, before, keyed)
    await bench.worker.start()
    await bench.until_holds("a first observation", observed)
    assert await bench.worker.stop() == 0
    matched = sum(outcome["result"] == "matched" for outcome in await bench.messages("outcomes"))
    await send(bench, waiting, keyed)
    await bench.worker.start()
    await bench.until_holds("every truth matched or orphaned, and expiry", settled)
    assert matched + await truths_that_are("matched") == count["truths"], f"seed {seed}"
    assert (await truths_that_are("missing"), await truths_that_are("orphan")) == (PARTITIONS, PARTITIONS), f"seed {seed}"
    assert await bench.worker.series("palimpsest_dropped_total", list="early") == 0, f"seed {seed}"
    assert await bench.worker.series("palimpsest_observations_total", outcome="truth-only") == 0, f"seed {seed}"
    assert await bench.worker.stop() == 0
    assert len(await bench.read("dead_letters")) == PARTITIONS
    predictions, outcomes = await bench.messages("predictions"), await bench.messages("outcomes")
    assert not any("hindsight" in message.get("flags", ()) for message in (*predictions, *outcomes)), f"seed {seed}"
    ids = Counter(p["id"] for p in predictions)
    assert set(ids.values()) <= {1}
    if backlog == "all":
        assert len(ids) == count["observations"] + PARTITIONS


#: Takes a little for each answer, so that a backlog lasts.
SLOW_MODEL = """\
import asyncio
from agents.models.scripted import ScriptedModel, answer_from_schema

def model(settings):
    return ScriptedModel(answer_from_schema, latency=lambda: asyncio.sleep(0.01))
"""
SLOW = """\
app = "{app}"
time = "replay"
kafka.bootstrap_servers = "{kafka}"
topics = {topics}
worker = {{ http_port = {port}, state_dir = "{state}", window = 16 }}
model = {{ backend = "import", factory = "slow:model" }}
observations.key = "KEY"
truths.source = "next-observation"
rewrite.policy = "never"
target = {{ field = "t" }}
"""


@pytest.mark.parametrize("key", ["entity", "any"])
async def test_a_backlog_of_many_records_is_worked_off_in_order_with_few_of_them_in_memory(make_bench, tmp_path: Path, key: str) -> None:
    (tmp_path / "slow.py").write_text(SLOW_MODEL)
    bench = await make_bench(SLOW.replace("KEY", key), partitions=1)
    entities = [f"e{i}" for i in range(50)]
    records = []
    for step in range(600):
        fields = {"time": 1_700_000_000 + 60 * step, "values": {"t": step}}
        records += [(e.encode(), orjson.dumps({"entity": e, "id": f"{e}-{step}", **fields}), None) for e in entities]
    assert len(records) == 30_000
    await bench.send("observations", records)
    await bench.worker.start(PYTHONPATH=f"{Path.cwd()}:{tmp_path}")
    in_flight, in_memory, committed = [], [], []

    async def enough_seen() -> bool:
        in_flight.append(await bench.worker.series("palimpsest_in_flight"))
        places = {"input": "observations", "partition": "0"}
        read, done = [await bench.worker.series(f"palimpsest_{name}_offset", **places) for name in ("position", "committed")]
        if math.isnan(read) or math.isnan(done):
            return False
        in_memory.append(read - done)
        committed.append(done)
        return done >= 200

    await bench.until_holds("some hundreds of observations", enough_seen)
    assert max(in_flight) <= 16
    # In the inlet, in the window, and done since positions were last committed: nothing near what one fetch brings, nor what waits.
    assert max(in_memory) <= 2 * (HOLD_AT + POLL_RECORDS)
    assert committed == sorted(committed)
    # Still the member of the group that it was, and it leaves in good order.
    assert bench.worker.log.read_text().count("took over partitions") == 1
    assert await bench.worker.stop() == 0
    predicted = [message["id"] for message in await bench.messages("predictions")]
    sent = [orjson.loads(value)["id"] for _, value, _ in records]
    assert sorted(predicted) == sorted(sent[: len(predicted)])
    async with admin(bench.settings.kafka) as client:
        stood = {place.topic: offset for place, offset in (await group_positions(client, bench.settings.app)).items()}
    assert stood[state_topic(bench.settings, "observations")] == len(predicted) < len(records)
