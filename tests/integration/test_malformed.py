from collections import Counter

import orjson
import pytest

from streams.dead_letters import from_headers
from streams.partitioner import partition_of
from tests.integration.conftest import duplicates

pytestmark = pytest.mark.integration

CONFIG = """\
app = "{app}"
backlog = "all"
kafka.bootstrap_servers = "{kafka}"
topics = {topics}
worker = {{ http_port = {port}, state_dir = "{state}" }}
model = {{ backend = "import", factory = "agents.models.scripted:from_settings" }}
observations.key = "entity"
truths.key = "entity"
target = {{ field = "t", range = [-50, 60] }}
"""
PARTITIONS = 4
GOOD, BAD = 1_000, 10_000
NOW = "2024-05-01T00:00:00Z"


def observation(**fields: object) -> bytes:
    return orjson.dumps({"entity": "e1", "time": NOW, "id": "x", "values": {"t": 1.5}, **fields})


#: Kind -> (input, value, expected reason). The key is e1 throughout.
KINDS: dict[str, tuple[str, bytes, str]] = {
    "not UTF-8": ("observations", b'{"entity":"e1\xff\xfe"}', "not-utf8"),
    "empty": ("observations", b"", "not-json"),
    "not JSON": ("observations", b"temperature=21.4", "not-json"),
    "cut off": ("observations", observation()[:-3], "not-json"),
    "an array": ("observations", b'[{"entity":"e1"}]', "not-object"),
    "NaN": ("observations", observation().replace(b"1.5", b"NaN"), "not-json"),
    "infinite": ("observations", observation().replace(b"1.5", b"1e999"), "not-finite"),
    "deep": ("observations", b'{"entity":"e1","a":' + b"[" * 500 + b"]" * 500 + b"}", "too-deep"),
    "no entity": ("observations", orjson.dumps({"time": NOW, "values": {"t": 1}}), "missing-entity"),
    "entity an object": ("observations", observation(entity={"id": 1}), "bad-entity"),
    "entity too long": ("observations", observation(entity="e" * 300), "bad-entity"),
    "no time": ("observations", orjson.dumps({"entity": "e1", "values": {"t": 1}}), "missing-time"),
    "time in words": ("observations", observation(time="yesterday"), "bad-time"),
    "year 99999": ("observations", observation(time="99999-01-01T00:00:00Z"), "bad-time"),
    "time beyond the calendar": ("observations", observation(time=10**18), "bad-time"),
    "time without offset": ("observations", observation(time="2024-05-01T00:00:00"), "bad-time"),
    "far ahead": ("observations", observation(time="2093-01-01T00:00:00Z"), "future-time"),
    "a nested value": ("observations", observation(values={"t": {"celsius": 1}}), "wrong-type"),
    "values a list": ("observations", observation(values=[1, 2]), "wrong-type"),
    "text just under the topic's limit": ("observations", observation(values={"t": 1, "note": "x" * 1_040_000}), "text-too-long"),
    "id an object": ("observations", observation(id=[1]), "bad-id"),
    "a schema to come": ("observations", observation(schema_version=7), "unsupported-schema"),
    "wrong partition": ("observations", observation(), "wrong-partition"),
    "truth without value": ("truths", orjson.dumps({"entity": "e1", "observation_id": "o1"}), "missing-target"),
    "truth a text": ("truths", orjson.dumps({"entity": "e1", "observation_id": "o1", "value": "21"}), "wrong-type"),
    "truth out of range": ("truths", orjson.dumps({"entity": "e1", "observation_id": "o1", "value": 900}), "out-of-range"),
    "truth for nothing": ("truths", orjson.dumps({"entity": "e1", "value": 9}), "no-match"),
}
#: The large one is sent a few times: ten thousand of them would be ten gigabytes.
LARGE, LARGE_COUNT = "text just under the topic's limit", 20


async def test_bad_messages_are_dead_lettered_once_each_and_the_good_ones_between_them_predicted(make_bench) -> None:
    bench = await make_bench(CONFIG, partitions=PARTITIONS)
    home = partition_of(b"e1", PARTITIONS)
    names = [name for name in KINDS if name != LARGE]
    counts = Counter({LARGE: LARGE_COUNT})
    for i in range(BAD - LARGE_COUNT):
        counts[names[i % len(names)]] += 1
    assert counts.total() == BAD
    queue = [name for name, count in counts.items() for _ in range(count)]
    queue.sort(key=lambda name: hash((name, len(name))) % 97)  # mixed, the same way within one run
    sent: dict[str, list[tuple[bytes | None, bytes, int | None]]] = {"observations": [], "truths": []}
    every = BAD // GOOD
    for i, name in enumerate(queue):
        role, value, _ = KINDS[name]
        sent[role].append((b"e1", value, (home + 1) % PARTITIONS if name == "wrong partition" else home))
        if i % every == 0:
            entity = f"g{i // every % 50}"
            key = entity.encode()
            good = orjson.dumps({"entity": entity, "time": 1_700_000_000 + i, "id": f"good-{i // every}", "values": {"t": i % 30}})
            sent["observations"].append((key, good, partition_of(key, PARTITIONS)))
    for role, records in sent.items():
        await bench.send(role, records)
    await bench.worker.start()
    await bench.until("predictions", lambda seen: len(seen) >= GOOD)
    letters = await bench.until("dead_letters", lambda seen: len(seen) >= BAD)

    predictions = await bench.messages("predictions")
    assert sorted(p["id"] for p in predictions) == sorted(f"good-{i}" for i in range(GOOD))
    about = [from_headers(letter.headers) for letter in letters]
    assert len(about) == BAD
    assert duplicates([(a.topic, a.partition, a.offset) for a in about]) == []
    expected: Counter[str] = Counter()
    for name, count in counts.items():
        expected[KINDS[name][2]] += count
    assert Counter(a.reason for a in about) == expected
    # Still the process that was started, and nothing more to come after it has read everything.
    assert bench.worker.running
    assert "\npalimpsest_restarts_total 0.0\n" in await bench.worker.metrics()
    assert await bench.worker.stop() == 0
    assert len(await bench.read("dead_letters")) == BAD
    assert len(await bench.read("predictions")) == GOOD
