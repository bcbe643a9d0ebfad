"""Champion and challenger: two applications with their own outputs read the same input topics, and are compared while both run."""

import asyncio
from functools import partial

import orjson
import pytest

from streams import exits
from streams.cli.entry import run
from tests.integration.conftest import at_least

pytestmark = pytest.mark.integration

STEPS, ENTITIES = 30, ("north", "south")
CONFIG = """\
app = "{app}"
time = "replay"
kafka.bootstrap_servers = "{kafka}"
topics = {topics}
worker = {{ http_port = {port}, state_dir = "{state}", session_timeout = "6s" }}
model = {{ backend = "import", factory = "agents.models.scripted:from_settings" }}
observations.key = "entity"
truths.source = "next-observation"
target = {{ field = "level", decimals = 1 }}
publish.publish = "PUBLISH"
"""


async def test_a_challenger_on_the_same_stream_is_compared_with_the_champion_while_both_run(make_bench, capsys) -> None:
    champion = await make_bench(CONFIG.replace("PUBLISH", "model"))
    inputs = champion.settings.topics
    own = (
        f'{{{{ observations = "{inputs.observations}", truths = "{inputs.truths}", commands = "{{app}}.commands", '
        'predictions = "{app}.predictions", outcomes = "{app}.outcomes", memories = "{app}.memories", dead_letters = "{app}.dead" }}'
    )
    challenger = await make_bench(CONFIG.replace("PUBLISH", "guarded").replace("{topics}", own), inputs=False)
    await asyncio.gather(champion.worker.start(), challenger.worker.start())

    # A straight line: the last value is always one step behind, and what reads the drift is not.
    readings = [
        (name.encode(), orjson.dumps({"entity": name, "time": 1_700_000_000 + 60 * n, "values": {"level": n + 0.5 * (n % 2)}}), None)
        for n in range(STEPS)
        for name in ENTITIES
    ]
    await champion.send("observations", readings)
    count = (STEPS - 1) * len(ENTITIES)
    await asyncio.gather(*(bench.until("outcomes", partial(at_least, count)) for bench in (champion, challenger)))

    def files() -> list[str]:
        return [str(bench.worker._config) for bench in (champion, challenger)]

    assert await asyncio.to_thread(run, ["compare", *files(), "--json"]) == exits.OK
    found = orjson.loads(capsys.readouterr().out)
    assert (found["n"], found["entities"], found["truths_differ"]) == (count, 2, 0)
    assert [found[side]["only"] for side in ("a", "b")] == [0, 0]
    published, own_answers = (found["b_against_a"][name] for name in ("published", "model"))
    assert published["better"], published["sentence"]
    assert own_answers["difference"] == 0.0, "both ask the same model the same"
    assert not own_answers["better"]
    assert not own_answers["worse"]

    assert await asyncio.to_thread(run, ["compare", *files(), "--entity", "south"]) == exits.OK
    out = capsys.readouterr().out
    assert f"compared\t{STEPS - 1}\t{STEPS - 1}" in out
    assert f"{challenger.settings.app} is better than {champion.settings.app}" in out
