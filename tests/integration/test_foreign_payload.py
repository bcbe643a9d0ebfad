import asyncio
import random
from functools import partial

import orjson
import pytest

from tests.integration.conftest import at_least

pytestmark = pytest.mark.integration

#: What a user writes for a topic that is there already: fourteen lines, nothing of it about how records are laid out in Kafka.
CONFIG = """\
app = "{app}"
backlog = "all"
topics = {topics}
kafka.bootstrap_servers = "{kafka}"
worker = {{ http_port = {port}, state_dir = "{state}" }}
model = {{ backend = "import", factory = "agents.models.scripted:from_settings" }}
[observations]
entity = "sensor.id"
time = "ts"
values = {{ t = "t" }}
[target]
field = "t"
[truths]
source = "next-observation"
"""


async def test_an_existing_topic_without_keys_is_predicted_with_one_state_per_sensor(make_bench) -> None:
    assert len(CONFIG.splitlines()) <= 15
    bench = await make_bench(CONFIG)
    await bench.worker.start()
    sensors, steps, random_ = [f"s{i}" for i in range(6)], 10, random.Random(1)
    for step in range(steps):
        # No key: the producer spreads a sensor's readings over all partitions. In between a sensor's readings are in order.
        records = []
        for sensor in sensors:
            payload = {"sensor": {"id": sensor}, "ts": 1690000000123 + step * 60_000, "t": 20.0 + step + random_.random()}
            records.append((None, orjson.dumps(payload), random_.randrange(4)))
        await bench.send("observations", records)
        await bench.until("predictions", partial(at_least, (step + 1) * len(sensors)))
    outcomes = await bench.until("outcomes", lambda seen: len(seen) >= (steps - 1) * len(sensors))
    predictions = await bench.messages("predictions")
    assert len(predictions) == steps * len(sensors)
    assert {p["entity"] for p in predictions} == set(sensors)
    for sensor in sensors:
        mine = [orjson.loads(o.value) for o in outcomes if orjson.loads(o.value)["entity"] == sensor]
        assert len(mine) == steps - 1
        assert mine[-1]["scores"]["published"]["n"] == steps - 1
    # One partition of the outputs per sensor: one state, one lane.
    placed = {(record.key, record.partition) for record in await bench.read("predictions")}
    assert len(placed) == len(sensors)
    assert await bench.read("dead_letters") == []
    assert await asyncio.wait_for(bench.worker.stop(), 60) == 0
