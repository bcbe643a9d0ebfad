"""Twenty thousand observations that are of no use any more wait in Kafka before a hundred that are: the model is kept for these."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from streams.kafka import producer
from tests.emulator.latency import Latency
from tests.emulator.server import Emulator
from tests.integration.conftest import Bench

#: The old ones are half a minute or so of one processor's work, more on a machine that has others to do.
pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

#: The model takes its time: were it asked about the old ones, that would be hours.
SLOTS, SECONDS = 2, 0.2
ENTITIES, OLD, LIVE = 200, 100, 100
#: Between two observations of an entity, and as far as each one looks.
STEP = HORIZON = timedelta(hours=2)

CONFIG = """\
app = "{app}"
kafka.bootstrap_servers = "{kafka}"
topics = {topics}
worker = {{ http_port = {port}, state_dir = "{state}" }}
model = {{ host = "HOST", slots = SLOTS, deadline = "10m" }}
observations.key = "entity"
truths = {{ source = "next-observation", tolerance = "10m" }}
rewrite.policy = "never"
target = {{ field = "t", horizon = "2h" }}
"""


def observation(entity: int, number: int, time: datetime) -> tuple[bytes, bytes]:
    name = f"e{entity}"
    return name.encode(), orjson.dumps(
        {"entity": name, "id": f"{name}-{number}", "time": time.isoformat(), "values": {"t": number + 0.01 * entity}}
    )


def old(now: datetime) -> Iterator[tuple[bytes, bytes]]:
    """What the entities sent while the worker was down: the last target time is an hour ago."""
    for number in range(OLD):
        time = now - timedelta(hours=1) - HORIZON - STEP * (OLD - 1 - number)
        for entity in range(ENTITIES):
            yield observation(entity, number, time)


async def send(bench: Bench, records: Iterator[tuple[bytes, bytes]]) -> None:
    async with producer(bench.settings.kafka, linger_ms=20, max_batch_size=256 * 1024) as out:
        waiting = []
        for key, value in records:
            waiting.append(await out.send(bench.settings.topics.observations, value, key=key))
            if len(waiting) == 5_000:
                await asyncio.gather(*waiting)
                waiting.clear()
        await asyncio.gather(*waiting)


async def until_all_observed(bench: Bench, expected: int) -> None:
    """Wait as long as there is progress; a time for the whole would be one for this machine."""
    done = 0.0
    while done < expected:
        before = done

        async def goes_on(before: float = before) -> bool:
            nonlocal done
            done = await bench.worker.series("palimpsest_processed_total", input="observations", outcome="applied")
            return done > before

        await bench.until_holds(f"more than {before:.0f} of {expected} observations", goes_on)


async def test_old_observations_feed_the_ledger_and_the_live_ones_behind_them_are_answered_by_the_model_in_time(make_bench) -> None:
    async with Emulator(slots=SLOTS, latency=Latency(SECONDS)) as emulator:
        bench = await make_bench(CONFIG.replace("HOST", emulator.host).replace("SLOTS", str(SLOTS)))
        began = datetime.now(UTC)
        await send(bench, old(began))
        await send(bench, (observation(entity, OLD, began) for entity in range(LIVE)))
        await bench.worker.start()
        await until_all_observed(bench, ENTITIES * OLD + LIVE)
        conflated, predicted = [await bench.worker.series("palimpsest_observations_total", outcome=o) for o in ("conflated", "predicted")]
        matched = await bench.worker.series("palimpsest_truths_total", outcome="matched")
        assert await bench.worker.stop() == 0
        calls = [call.outcome for call in emulator.journal.calls if call.kind == "predict"]

    predictions = await bench.messages("predictions")
    assert sorted(p["id"] for p in predictions) == sorted(f"e{entity}-{OLD}" for entity in range(LIVE))
    assert {p["model"].get("error", "") for p in predictions} == {""}
    assert all(p["model_answer"] for p in predictions), "each has an answer of the model's own"
    assert not any(p.get("flags") for p in predictions), "stale, for one"
    for prediction in predictions:
        assert datetime.fromisoformat(prediction["made_at"]) < datetime.fromisoformat(prediction["target_time"])
        assert datetime.fromisoformat(prediction["target_time"]) == began + HORIZON
    assert (conflated, predicted) == (ENTITIES * OLD, LIVE)
    assert calls == ["answered"] * LIVE, "no old one took a call"
    # Each old observation but an entity's last one was answered by the next one, and was learned from.
    assert matched == ENTITIES * (OLD - 1)
    assert await bench.messages("outcomes") == []
    assert await bench.read("dead_letters") == []
