"""An input that was deleted and made anew under its name: its offsets begin again, and would all pass for applied."""

import orjson
import pytest
from aiokafka.admin import NewTopic

from streams.kafka import admin
from streams.topics import wait_until_known

pytestmark = pytest.mark.integration

CONFIG = """\
app = "{app}"
time = "replay"
kafka.bootstrap_servers = "{kafka}"
topics = {topics}
worker = {{ http_port = {port}, state_dir = "{state}", session_timeout = "6s" }}
model = {{ backend = "import", factory = "agents.models.scripted:from_settings" }}
observations.key = "{key}"
rewrite.policy = "never"
target = {{ field = "t" }}
"""


@pytest.mark.parametrize("key", ["entity", "any"])
async def test_it_is_refused_at_start_with_the_way_out_instead_of_losing_what_is_in_it(make_bench, key: str) -> None:
    bench = await make_bench(CONFIG.replace("{key}", key))

    def reading(number: int) -> tuple[bytes, bytes, None]:
        body = {"entity": "a", "id": f"a-{number}", "time": 1_700_000_000 + number * 60, "values": {"t": number}}
        return b"a", orjson.dumps(body), None

    await bench.worker.start()
    await bench.send("observations", [reading(number) for number in range(20)])
    await bench.until("predictions", lambda seen: len(seen) >= 20)
    assert await bench.worker.stop() == 0
    await bench.worker.start()  # the same topic is no reason for anything
    assert await bench.worker.stop() == 0

    topic = bench.settings.topics.observations
    async with admin(bench.settings.kafka) as client:
        await client.delete_topics([topic])
        made = await client.create_topics([NewTopic(topic, 4, 1)])
        while any(code for _, code, *_ in made.topic_errors):  # the old one is still going
            made = await client.create_topics([NewTopic(topic, 4, 1)])
        await wait_until_known(client, [topic])
    await bench.send("observations", [reading(number) for number in range(20, 30)])
    with pytest.raises(AssertionError, match="the worker ended with 1"):
        while True:
            await bench.worker.start()
            await bench.worker.wait()
    log = bench.worker.tail()
    assert "is not the topic that the states were made from" in log
    assert "palimpsest state export" in log
