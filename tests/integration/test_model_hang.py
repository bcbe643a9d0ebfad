"""The model hangs for far longer than any deadline, and comes back: nothing waits for it, nothing is lost, and it is asked again."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from aiokafka.structs import ConsumerRecord

from schemas.queries import EntityReport, entity_path
from tests.emulator.faults import Fault
from tests.emulator.kinds import KINDS
from tests.emulator.latency import Latency
from tests.emulator.server import Emulator
from tests.integration.conftest import Bench, at_least

pytestmark = pytest.mark.integration

#: The memory is rewritten in the background whatever the proposal is like; so few outcomes may wait that some are folded meanwhile.
CONFIG = """\
app = "{app}"
backlog = "all"
kafka.bootstrap_servers = "{kafka}"
topics = {topics}
worker = {{ http_port = {port}, state_dir = "{state}" }}
observations = {{ key = "entity", time = "@timestamp" }}
truths.key = "entity"
target = {{ field = "t", horizon = "1s" }}
rewrite = {{ policy = "every", mode = "background", max_attempts = 1 }}
bounds = {{ feedback = 4 }}
[model]
host = "HOST"
slots = 2
deadline = "1s"
rewrite_deadline = "3s"
rewrite_max_wait = "1s"
breaker_failures = 3
breaker_pause = "1s"
"""
ENTITIES = ("a", "b", "c", "d", "e", "f")
#: Rounds in which the model hangs: more outcomes of an entity than may wait for its memory.
HANGING = 7


class Stream:
    """Observations of all entities in rounds, each with the truths of the round before it."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._numbers = count()
        self.observed: list[str] = []
        self.told: list[str] = []

    async def round(self) -> list[dict[str, Any]]:
        """Send one; return its predictions when all are there."""
        number = next(self._numbers)
        if number:
            await self.tell(number - 1)
        names = [f"{entity}-{number}" for entity in ENTITIES]
        self.observed += names
        values = {"t": 3.0 * number, "wind": "north" if number % 2 else "south"}
        await self._send("observations", [{"entity": _entity(name), "id": name, "values": values} for name in names])
        seen = await self._bench.until("predictions", lambda records: set(names) <= {_message(record)["id"] for record in records})
        return [message for message in map(_message, seen) if message["id"] in names]

    async def tell(self, number: int) -> None:
        """Send the truths of a round."""
        names = [f"{entity}-{number}" for entity in ENTITIES]
        self.told += names
        await self._send("truths", [{"entity": _entity(n), "observation_id": n, "value": 3.0 * number + 1.0} for n in names])

    async def _send(self, role: str, values: list[dict[str, Any]]) -> None:
        await self._bench.send(role, [(value["entity"].encode(), orjson.dumps(value), None) for value in values])


async def test_while_the_model_hangs_predictions_come_marked_and_afterwards_it_is_asked_again(make_bench: Any, tmp_path: Path) -> None:
    async with Emulator(slots=2, latency=Latency(0.02)) as emulator:
        bench: Bench = await make_bench(CONFIG.replace("HOST", emulator.host))
        stream = Stream(bench)
        await bench.worker.start()
        before = await stream.round()
        assert {p["source"] for p in before} == {"model"}

        emulator.faults.on(Fault.HANG, kinds=KINDS)
        # Each round is awaited, outcomes too, before the model is let go: so all of them came while it hung.
        hung = [prediction for _ in range(HANGING) for prediction in await stream.round()]
        await bench.until("outcomes", lambda records: at_least(len(stream.told), records))
        waiting = [await _report(bench, entity) for entity in ENTITIES]
        hanging = emulator.journal.statistics()
        emulator.faults.off()

        assert {p["source"] for p in hung} == {"fallback"}
        assert {p["model"]["error"] for p in hung} <= {"timeout", "away", "shed"}
        assert all("model_answer" not in p and p["forecast"] for p in hung)
        assert hanging.faults[Fault.HANG] < len(hung), "a breaker leaves a host alone that hangs"
        for report in waiting:
            assert report.outcomes == report.scores["published"].n == HANGING
            # Each outcome waits to be learned from, some of them in a summary that counts them.
            assert len(report.feedback) + report.folded.count == HANGING
            assert report.folded.count == report.dropped["feedback"] > 0

        async def answers_again() -> bool:
            return any(p["source"] == "model" for p in await stream.round())

        await bench.until_holds("the model is used again", answers_again)
        rewrite = {"op": "rewrite", "by": "somebody"}
        await bench.send("commands", [(entity.encode(), orjson.dumps({"entity": entity, **rewrite}), None) for entity in ENTITIES])

        async def all_consumed() -> bool:
            reports = [await _report(bench, entity) for entity in ENTITIES]
            return all(report.folded.count == 0 and report.outcomes > len(report.feedback) for report in reports)

        await bench.until_holds("what waited while the model hung is learned from", all_consumed)
        await bench.until("outcomes", lambda records: at_least(len(stream.told), records))
        predictions, outcomes = await bench.messages("predictions"), await bench.messages("outcomes")
        assert sorted(p["id"] for p in predictions) == sorted(stream.observed)
        assert sorted(o["prediction_id"] for o in outcomes) == sorted(stream.told)
        assert await bench.worker.series("palimpsest_restarts_total") == 0
        assert await bench.worker.stop() == 0


def _entity(name: str) -> str:
    return name.partition("-")[0]


def _message(record: ConsumerRecord) -> dict[str, Any]:
    message: dict[str, Any] = orjson.loads(record.value)
    return message


async def _report(bench: Bench, entity: str) -> EntityReport:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(bench.worker.url + entity_path(entity))
    return EntityReport.model_validate_json(answer.raise_for_status().content)
