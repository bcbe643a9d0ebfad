"""A short form of breaking the worker: what is committed is complete and single, whatever moment it is killed at."""

import asyncio
import random
from collections import Counter

import orjson
import pytest

pytestmark = pytest.mark.integration

CONFIG = """\
app = "{app}"
time = "replay"
kafka.bootstrap_servers = "{kafka}"
topics = {topics}
worker = {{ http_port = {port}, state_dir = "{state}", session_timeout = "6s", instance_id = "one" }}
model = {{ backend = "import", factory = "agents.models.scripted:from_settings" }}
observations.key = "entity"
rewrite.policy = "never"
target = {{ field = "t" }}
"""


async def test_killed_at_any_moment_every_observation_has_one_prediction_and_every_truth_one_outcome(make_bench) -> None:
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    bench = await make_bench(CONFIG)
    entities, steps, kills = 40, 40, 4

    async def load() -> None:
        for step in range(steps):
            observations, truths = [], []
            for e in range(entities):
                key = b"e%d" % e
                identity, time = f"e{e}-{step}", 1_700_000_000 + step * 60
                observations.append((key, orjson.dumps({"entity": f"e{e}", "id": identity, "time": time, "values": {"t": step + e}}), None))
                truth = orjson.dumps({"entity": f"e{e}", "observation_id": identity, "value": step + e + 1, "time": time + 60})
                truths += [(None, truth, None)] * (2 if chance.random() < 0.2 else 1)
            chance.shuffle(truths)
            await bench.send("observations", observations)
            await bench.send("truths", truths)

    await bench.worker.start()
    sending = asyncio.create_task(load())
    for _ in range(kills):
        await asyncio.sleep(chance.uniform(0.0, 1.0))  # the moment of the kill is what is random
        await bench.worker.kill()
        await bench.worker.start()
    await sending
    total = entities * steps
    await bench.until("outcomes", lambda seen: len(seen) >= total)
    await bench.until("predictions", lambda seen: len(seen) >= total)
    assert await bench.worker.stop() == 0
    predicted = Counter(p["id"] for p in await bench.messages("predictions"))
    settled = Counter(o["prediction_id"] for o in await bench.messages("outcomes"))
    assert set(predicted.values()) == {1}, f"seed {seed}"
    assert set(settled.values()) == {1}, f"seed {seed}"
    assert len(predicted) == len(settled) == total
    # In each entity's own order, in the order of its stream.
    by_entity: dict[bytes, list[int]] = {}
    for record in await bench.read("predictions"):
        by_entity.setdefault(record.key, []).append(int(orjson.loads(record.value)["id"].rpartition("-")[2]))
    assert all(order == sorted(order) for order in by_entity.values())
    assert await bench.read("dead_letters") == []
