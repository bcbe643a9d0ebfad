"""A model call that never ends holds up neither the end of a worker nor a rebalance, and what it was made for is done by the next owner."""

import asyncio
import re
import signal
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.integration.conftest import Bench, Worker, at_least

pytestmark = pytest.mark.integration

CONFIG = """\
app = "{app}"
time = "replay"
kafka.bootstrap_servers = "{kafka}"
topics = {topics}
worker = {{ http_port = {port}, state_dir = "{state}", drain_deadline = "5s", rebalance_timeout = "60s" }}
model = {{ backend = "import", factory = "stalling:model", slots = 4, deadline = "10m" }}
observations.key = "entity"
truths.source = "next-observation"
rewrite.policy = "never"
target = {{ field = "t" }}
"""

#: Never answers for 666 while the file `stalled` is there, and not for 333 before the file `open` is. Notes which calls have begun.
STALLING_MODEL = """\
import asyncio
import os
from pathlib import Path
from agents.models.scripted import ScriptedModel, answer_from_schema

PLACE = Path(os.environ["STALLING"])

class StallingModel(ScriptedModel):
    async def complete(self, messages, **rest):
        if "666" in messages[-1].content and (PLACE / "stalled").exists():
            (PLACE / "666").touch()
            await asyncio.Event().wait()
        if "333" in messages[-1].content:
            (PLACE / "333").touch()
            while not (PLACE / "open").exists():
                await asyncio.sleep(0.02)
        return await super().complete(messages, **rest)

def model(settings):
    return StallingModel(answer_from_schema)
"""


@pytest.fixture
def stalling(tmp_path: Path) -> dict[str, str]:
    """The environment of a worker with the stalling model; its files are in `tmp_path`."""
    (tmp_path / "stalling.py").write_text(STALLING_MODEL)
    (tmp_path / "stalled").touch()
    return {"PYTHONPATH": f"{Path.cwd()}:{tmp_path}", "STALLING": str(tmp_path)}


async def observe(bench: Bench, **values: float) -> None:
    records = [
        {"entity": entity, "id": f"{entity}-{value}", "time": 1_700_000_000, "values": {"t": value}} for entity, value in values.items()
    ]
    await bench.send("observations", [(r["entity"].encode(), orjson.dumps(r), None) for r in records])


async def until_there(bench: Bench, *files: Path) -> None:
    async def there() -> bool:
        return all(file.exists() for file in files)

    await bench.until_holds(f"calls of the model: {files}", there)


async def until_said(bench: Bench, worker: Worker, text: str) -> None:
    async def said() -> bool:
        return text in worker.log.read_text()

    await bench.until_holds(f"{text!r} in the log", said)


def lines(worker: Worker) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in worker.log.read_text().splitlines() if line.startswith("{")]


async def test_a_worker_that_is_told_to_stop_waits_for_the_calls_that_end_and_leaves_the_others_to_its_successor(
    make_bench, stalling: dict[str, str], tmp_path: Path
) -> None:
    bench = await make_bench(CONFIG)
    await bench.worker.start(**stalling)
    await observe(bench, quick=1.0)
    await bench.until("predictions", partial(at_least, 1))
    await observe(bench, hung=666.0, slow=333.0)
    await until_there(bench, tmp_path / "666", tmp_path / "333")
    bench.worker.signal(signal.SIGTERM)
    await until_said(bench, bench.worker, "SIGTERM")
    # Draining began, and still has time for what ends now.
    (tmp_path / "open").touch()
    assert await bench.worker.wait() == 0
    predicted = Counter(p["entity"] for p in await bench.messages("predictions"))
    assert predicted == {"quick": 1, "slow": 1}
    (handed_over,) = (line["message"] for line in lines(bench.worker) if "handed over in" in line["message"])
    found = re.search(r"in ([\d.]+) s, (\d+) items left to the next owner", handed_over)
    assert found
    assert float(found[1]) >= 5.0
    assert int(found[2]) == 1

    (tmp_path / "stalled").unlink()
    await bench.worker.start(**stalling)
    await bench.until("predictions", partial(at_least, 3))
    assert await bench.worker.stop() == 0
    assert Counter(p["id"] for p in await bench.messages("predictions")) == {"quick-1.0": 1, "slow-333.0": 1, "hung-666.0": 1}


async def test_a_worker_joins_while_calls_hang_and_the_next_owner_makes_them_again(
    make_bench, stalling: dict[str, str], tmp_path: Path
) -> None:
    bench = await make_bench(CONFIG)
    first, second = bench.worker, bench.another()
    await first.start(**stalling)
    others = {f"e{i}": float(i) for i in range(20)}
    await observe(bench, hung=666.0, **others)
    await until_there(bench, tmp_path / "666")
    await bench.until("predictions", partial(at_least, len(others)))
    # Only the call that has begun hangs: whoever has its partition next makes it anew.
    (tmp_path / "stalled").unlink()
    await second.start(**stalling)
    await bench.until("predictions", partial(at_least, len(others) + 1))
    await observe(bench, **{entity: value + 100 for entity, value in others.items()})
    await bench.until("predictions", partial(at_least, 2 * len(others) + 1))
    assert first.running and second.running

    async def shared() -> bool:
        held = [[await worker.series("palimpsest_entities", partition=str(p)) for p in range(4)] for worker in (first, second)]
        return all(map(any, held)) and sum(map(sum, held)) == len(others) + 1

    await bench.until_holds("every entity at one of the two workers", shared)
    assert await asyncio.gather(first.stop(), second.stop()) == [0, 0]
    assert set(Counter(p["id"] for p in await bench.messages("predictions")).values()) == {1}
    assert "this worker ends" not in first.log.read_text() + second.log.read_text()
