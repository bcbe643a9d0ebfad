"""A record over the limits is dead-lettered, whether one input is too large or a state has grown, and its neighbours go through."""

import re
from collections import Counter
from functools import partial

import orjson
import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from schemas.settings import Settings
from streams.dead_letters import KEPT, from_headers
from streams.kafka import admin
from streams.topics import MESSAGE_OVERHEAD, OUTPUT_BYTES, changelog_topic
from tests.integration.conftest import Bench, at_least

pytestmark = pytest.mark.integration

#: The smallest records that the settings allow: what a state holds besides its lists may be larger than that.
CONFIG = """\
app = "{app}"
time = "replay"
kafka.bootstrap_servers = "{kafka}"
topics = {topics}
worker = {{ http_port = {port}, state_dir = "{state}" }}
model = {{ backend = "import", factory = "agents.models.scripted:from_settings" }}
observations.key = "entity"
truths = TRUTHS
bounds = BOUNDS
rewrite.policy = "never"
target = TARGET
"""
START = 1_700_000_000


async def limit(settings: Settings, topic: str, size: int, policy: str = "delete") -> None:
    """Let a topic take no larger records, as its owner may have set it."""
    configs = {"cleanup.policy": policy, "max.message.bytes": str(size)}
    async with admin(settings.kafka) as client:
        await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs)])


async def nothing_restarted(bench: Bench) -> None:
    assert bench.worker.running
    assert "this worker ends" not in bench.worker.log.read_text()


async def test_a_truth_whose_outcome_is_larger_than_its_topic_takes_is_dead_lettered_and_a_smaller_one_matches(make_bench) -> None:
    settings = {"TRUTHS": '{{ key = "entity" }}', "BOUNDS": "{{ text = 20000 }}", "TARGET": '{{ field = "t", kind = "text" }}'}
    bench = await make_bench(re.sub("|".join(settings), lambda found: settings[found[0]], CONFIG), partitions=1)
    await limit(bench.settings, bench.settings.topics.outcomes, OUTPUT_BYTES)
    entities, large = ["a", "b", "c"], "\N{CLOUD WITH RAIN}\N{SNOWMAN}" * 10_000
    await bench.worker.start()

    async def observe(step: int) -> None:
        records = [{"entity": e, "id": f"{e}-{step}", "time": START + 60 * step, "values": {"t": "sun"}} for e in entities]
        await bench.send("observations", [(r["entity"].encode(), orjson.dumps(r), None) for r in records])
        await bench.until("predictions", partial(at_least, (step + 1) * len(entities)))

    async def tell(step: int, values: dict[str, str]) -> None:
        records = [
            {"entity": e, "observation_id": f"{e}-{step}", "value": value, "time": START + 60 * step + 59} for e, value in values.items()
        ]
        await bench.send("truths", [(r["entity"].encode(), orjson.dumps(r), None) for r in records])

    # The forecast of the next step is the last truth: together with another one as large it is more than the topic takes.
    await observe(0)
    await tell(0, {"a": "rain", "b": large, "c": "fog"})
    await bench.until("outcomes", partial(at_least, 3))
    await observe(1)
    await tell(1, {"a": "rain", "b": large, "c": "fog"})
    await bench.until("outcomes", partial(at_least, 5))
    (letter,) = await bench.until("dead_letters", partial(at_least, 1))
    about = from_headers(letter.headers)
    assert (about.topic, about.reason) == (bench.settings.topics.truths, "too-large")
    assert bench.settings.topics.outcomes in about.detail
    assert (len(letter.value), about.size > KEPT) == (KEPT, True)
    await tell(1, {"b": "snow"})
    await bench.until("outcomes", partial(at_least, 6))
    await nothing_restarted(bench)
    assert await bench.worker.stop() == 0
    settled = {o["prediction_id"]: o["truth"] for o in await bench.messages("outcomes")}
    assert settled == {"a-0": "rain", "b-0": large, "c-0": "fog", "a-1": "rain", "b-1": "snow", "c-1": "fog"}
    assert len(await bench.read("dead_letters")) == 1


#: What follows what is counted for each pair of labels: with many long ones a state outgrows its record, whatever its lists let go.
LABELS = [f"{number:02d}-{'x' * 400}" for number in range(40)]


def every_pair(count: int) -> list[int]:
    """Numbers below `count`, in an order in which no pair follows another twice (a de Bruijn sequence)."""
    return [number for first in range(count) for number in (first, *(n for later in range(first + 1, count) for n in (first, later)))]


async def test_a_state_that_has_grown_over_what_the_changelog_takes_refuses_its_records_and_others_go_through(make_bench) -> None:
    labels = ", ".join(f'"{label}"' for label in LABELS)
    settings = {
        "TRUTHS": '{{ source = "next-observation" }}',
        "BOUNDS": "{{ record = 16384 }}",
        "TARGET": f'{{{{ field = "t", kind = "category", labels = [{labels}] }}}}',
    }
    bench = await make_bench(re.sub("|".join(settings), lambda found: settings[found[0]], CONFIG), partitions=1)
    await limit(bench.settings, changelog_topic(bench.settings), bench.settings.bounds.record + MESSAGE_OVERHEAD, "compact")
    records, steps = [], every_pair(len(LABELS))[:120]
    for step, number in enumerate(steps):
        for entity, label in (("grower", LABELS[number]), (f"other-{step % 5}", LABELS[0])):
            record = {"entity": entity, "id": f"{entity}-{step}", "time": START + step, "values": {"t": label}}
            records.append((entity.encode(), orjson.dumps(record), None))
    await bench.send("observations", records)
    await bench.worker.start()

    async def done() -> bool:
        applied = await bench.worker.series("palimpsest_processed_total", input="observations", outcome="applied")
        return applied + await bench.worker.series("palimpsest_processed_total", input="observations", outcome="dead-lettered") == len(
            records
        )

    await bench.until_holds("every observation predicted or dead-lettered", done)
    await nothing_restarted(bench)
    assert await bench.worker.stop() == 0
    letters = await bench.read("dead_letters")
    refused = [orjson.loads(letter.value)["id"] for letter in letters]
    assert {from_headers(letter.headers).reason for letter in letters} == {"too-large"}
    predicted = Counter(p["id"] for p in await bench.messages("predictions"))
    assert predicted + Counter(refused) == Counter(orjson.loads(value)["id"] for _, value, _ in records)
    assert {name.partition("-")[0] for name in refused} == {"grower"}
    # It grew for a while first.
    assert "grower-30" in predicted
