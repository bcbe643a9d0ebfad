"""Two workers of one group: one joins under load, one is killed, one leaves in good order; nothing is lost or done twice."""

import asyncio
from collections import Counter
from functools import partial

import orjson
import pytest

from tests.integration.conftest import at_least

pytestmark = pytest.mark.integration

CONFIG = """\
app = "{app}"
time = "replay"
kafka.bootstrap_servers = "{kafka}"
topics = {topics}
worker = {{ http_port = {port}, state_dir = "{state}", session_timeout = "6s", standby_replicas = 1 }}
model = {{ backend = "import", factory = "agents.models.scripted:from_settings" }}
observations.key = "entity"
rewrite.policy = "never"
target = {{ field = "t" }}
"""
ENTITIES, STEPS = 30, 60


async def test_partitions_move_between_workers_and_every_effect_stays_single(make_bench) -> None:
    bench = await make_bench(CONFIG)
    first, second = bench.worker, bench.another()

    async def load() -> None:
        for step in range(STEPS):
            observations, truths = [], []
            for e in range(ENTITIES):
                identity, time = f"e{e}-{step}", 1_700_000_000 + step * 60
                observation = {"entity": f"e{e}", "id": identity, "time": time, "values": {"t": step + e}}
                observations.append((b"e%d" % e, orjson.dumps(observation), None))
                truth = {"entity": f"e{e}", "observation_id": identity, "value": step + e + 1, "time": time + 60}
                truths.append((None, orjson.dumps(truth), None))
            await bench.send("observations", observations)
            await bench.send("truths", truths)

    total = ENTITIES * STEPS
    await first.start()
    sending = asyncio.create_task(load())
    await bench.until("predictions", partial(at_least, total // 10))
    await second.start()
    await bench.until("predictions", partial(at_least, total // 4))
    await first.kill()
    await bench.until("predictions", partial(at_least, total // 2))
    await first.start()
    await sending
    assert await second.stop() == 0
    await bench.until("outcomes", partial(at_least, total))
    await bench.until("predictions", partial(at_least, total))
    assert await first.stop() == 0
    predicted = Counter(p["id"] for p in await bench.messages("predictions"))
    settled = Counter(o["prediction_id"] for o in await bench.messages("outcomes"))
    assert len(predicted) == len(settled) == total
    assert set(predicted.values()) == set(settled.values()) == {1}
    order: dict[bytes, list[int]] = {}
    for record in await bench.read("predictions"):
        order.setdefault(record.key, []).append(int(orjson.loads(record.value)["id"].rpartition("-")[2]))
    assert all(steps == sorted(steps) for steps in order.values())
