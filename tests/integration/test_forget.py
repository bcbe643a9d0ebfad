"""Killed right after `forget`, again and again: nothing of the entity comes back, and its record is deleted in the end."""

import asyncio
import random
from contextlib import aclosing

import orjson
import pytest
import rocksdict

from schemas.state import entity_key
from streams.reading import read_topic
from streams.topics import changelog_topic

pytestmark = pytest.mark.integration

# Positions are committed late, so that each restart reads nearly everything again.
CONFIG = """\
app = "{app}"
backlog = "all"
kafka.bootstrap_servers = "{kafka}"
topics = {topics}
worker = {{ http_port = {port}, state_dir = "{state}", session_timeout = "6s", instance_id = "one", commit_interval = "5s" }}
model = {{ backend = "import", factory = "agents.models.scripted:from_settings" }}
commands.key = "entity"
rewrite.policy = "never"
target = {{ field = "t" }}
"""
KILLS = 5


def observation(entity: str, number: int, note: str) -> bytes:
    values = {"t": number, "note": note}
    return orjson.dumps({"entity": entity, "id": f"{entity}-{number}", "time": 1_700_000_000 + number, "values": values})


@pytest.mark.parametrize("key", ["entity", "any"])
async def test_killed_right_after_forget_no_text_of_the_entity_returns(make_bench, key: str) -> None:
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    bench = await make_bench(CONFIG + f'observations.key = "{key}"\n')
    await bench.worker.start()
    for round_ in range(KILLS):
        entity, secret = f"person-{round_}", f"secret-{round_}"
        await bench.send("observations", [(entity.encode(), observation(entity, n, secret), None) for n in range(8)])
        await bench.until("predictions", lambda seen, entity=entity: sum(r.key == entity.encode() for r in seen) >= 8)
        await bench.send("commands", [(entity.encode(), orjson.dumps({"entity": entity, "op": "forget", "by": "jane"}), None)])
        await asyncio.sleep(chance.choice([0.0, 0.05, 0.2, 1.5]))  # the moment of the kill is what is random
        await bench.worker.kill()
        await bench.worker.start()

    changelog = changelog_topic(bench.settings)
    keys = {entity_key(f"person-{n}") for n in range(KILLS)}
    async with asyncio.timeout(120):
        while (latest := await _latest(bench, changelog)) and any(latest.get(k) is not None for k in keys):
            await bench.until("predictions", lambda seen: len(seen) >= 8 * KILLS)
    assert keys <= set(latest), f"seed {seed}"
    # What is read again makes no prediction, and no second answer.
    await bench.send("observations", [(b"other", observation("other", 1, "hello"), None)])
    predictions = await bench.until("predictions", lambda seen: any(r.key == b"other" for r in seen))
    assert len(predictions) == 8 * KILLS + 1, f"seed {seed}"
    assert await bench.worker.stop() == 0

    answers = [message for message in await bench.messages("memories") if message["cause"] == "forget"]
    assert sorted(answer["entity"] for answer in answers) == [f"person-{n}" for n in range(KILLS)], f"seed {seed}"
    named = {name.partition(" ")[0] for answer in answers for name in answer["held_by"]}
    assert {getattr(bench.settings.topics, role) for role in ("observations", "predictions", "outcomes", "memories")} <= named
    assert changelog in named
    # Everything that a state is made of, in Kafka and on disk, is without it.
    assert not [k for k, value in (await _latest(bench, changelog)).items() if value is not None and b"secret" in value]
    for path in bench.settings.state_dir.rglob("*.db"):
        if path.is_dir():
            assert not [k for k, value in rocksdict.Rdict(str(path), rocksdict.Options(raw_mode=True)).items() if b"secret" in value]


async def _latest(bench, topic: str) -> dict[bytes, bytes | None]:
    async with aclosing(read_topic(bench.settings.kafka, topic)) as records:
        return {record.key: record.value async for record in records}
