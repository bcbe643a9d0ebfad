"""A worker dies, and another one that stood by goes on with its entities where they were."""

import logging
import re
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
import pytest

from streams.partitioner import partition_of
from tests.integration.conftest import Worker, at_least

pytestmark = pytest.mark.integration

log = logging.getLogger(__name__)

CONFIG = """\
app = "{app}"
time = "replay"
kafka.bootstrap_servers = "{kafka}"
topics = {topics}
worker = {{ http_port = {port}, state_dir = "{state}", session_timeout = "6s", standby_replicas = 1 }}
model = {{ backend = "import", factory = "agents.models.scripted:from_settings" }}
observations.key = "entity"
truths.source = "next-observation"
rewrite.policy = "never"
target = {{ field = "t" }}
"""
PARTITIONS = 4
ENTITIES = [f"e{i}" for i in range(24)]


def held_by(worker: Worker) -> list[int]:
    """The partitions that a worker took over last."""
    return orjson.loads(re.findall(r"took over partitions (\[[\d, ]*\])", worker.log.read_text())[-1])


async def test_the_entities_of_a_worker_that_died_are_predicted_by_the_one_that_stood_by(
    make_bench, record_property: Callable[[str, Any], None]
) -> None:
    bench = await make_bench(CONFIG, partitions=PARTITIONS)
    first, second = bench.worker, bench.another()
    steps = 0

    async def observe() -> None:
        nonlocal steps
        fields = {"time": 1_700_000_000 + 60 * steps, "values": {"t": float(steps)}}
        records = [(e.encode(), orjson.dumps({"entity": e, "id": f"{e}-{steps}", **fields}), None) for e in ENTITIES]
        steps += 1
        await bench.send("observations", records)

    await first.start()
    await second.start()
    for _ in range(4):
        await observe()
        await bench.until("predictions", partial(at_least, steps * len(ENTITIES)))
    lost = [e for e in ENTITIES if partition_of(e.encode(), PARTITIONS) in held_by(first)]
    assert 0 < len(lost) < len(ENTITIES)

    await first.kill()
    died = time.time()
    await observe()
    predictions = await bench.until("predictions", partial(at_least, steps * len(ENTITIES)))
    after = [record for record in predictions if record.key.decode() in lost and orjson.loads(record.value)["id"].endswith(f"-{steps - 1}")]
    assert len(after) == len(lost)
    seconds, session = min(record.timestamp for record in after) / 1000 - died, second.settings.worker.session_timeout.total_seconds()
    record_property("failover_seconds", round(seconds, 2))
    log.info("first prediction for an entity of the dead worker %.1f s after its death; the session timeout is %.0f s", seconds, session)
    assert held_by(second) == list(range(PARTITIONS))
    await observe()
    outcomes = await bench.until("outcomes", partial(at_least, (steps - 1) * len(ENTITIES)))
    assert second.running
    assert await second.stop() == 0
    # It had followed the changelog all the while, and had nothing to read back.
    assert re.findall(r"restored (\d+) partitions: (\d+) records", second.log.read_text())[-1] == (str(PARTITIONS), "0")
    # What was learned before goes on: the scores count every outcome of the entity since its beginning.
    counted = {e: [orjson.loads(o.value)["scores"]["published"]["n"] for o in outcomes if o.key.decode() == e] for e in ENTITIES}
    assert counted == {e: list(range(1, steps)) for e in ENTITIES}
    assert set(Counter(p["id"] for p in await bench.messages("predictions")).values()) == {1}
