"""One scene for all tests of Faust's faults: a bench whose worker can be directed and whose counter-measures can be taken out."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry

from schemas.settings import Settings
from streams.app import PalimpsestApp, build_app
from streams.cluster import TopicState, committed
from streams.kafka import admin
from streams.membership import describe_group
from streams.metrics import Metrics
from streams.topics import Survey, changelog_topic, topic_plan
from tests.integration import undone
from tests.integration.conftest import PATIENCE, Bench, Worker
from tests.integration.faults.directed import Stage

CONFIG = """\
app = "{app}"
time = "replay"
kafka.bootstrap_servers = "{kafka}"
topics = {topics}
model = {{ backend = "import", factory = "tests.integration.faults.directed:model", slots = 8 }}
observations.key = "entity"
truths.key = "entity"
rewrite.policy = "never"
target = {{ field = "t" }}
[worker]
http_port = {port}
state_dir = "{state}"
session_timeout = "6s"
drain_deadline = "2s"
rebalance_timeout = "30s"
commit_interval = "100ms"
transaction_timeout = "5m"
"""
#: Seconds between two looks at what nothing tells of by itself.
POLL = 0.05
#: When the first observation was made, seconds since the epoch.
EPOCH = 1_700_000_000


class Scene:
    """Observations go in, numbered within the test; which of them were predicted, and how often, comes out."""

    def __init__(self, bench: Bench, stages: Callable[[], Stage]) -> None:
        self.bench, self.worker = bench, bench.worker
        self._stages = stages
        self._sent = 0

    def stage(self) -> Stage:
        """A new one, for one start of a worker."""
        return self._stages()

    async def start(self, worker: Worker | None = None, **directions: str) -> None:
        """Start a worker, without the counter-measure that is to be taken out, and wait until it is ready."""
        await (worker or self.worker).start(undone.program(), **directions)

    async def launch(self, worker: Worker, **directions: str) -> None:
        """As `start`, without waiting."""
        await worker.launch(undone.program(), **directions)

    def observation(self, entity: str, identity: str, note: str = "") -> tuple[bytes, bytes, int]:
        self._sent += 1
        values = {"t": self._sent, "note": note}
        payload = {"entity": entity, "id": identity, "time": EPOCH + 60 * self._sent, "values": values}
        return entity.encode(), orjson.dumps(payload), 0

    async def observe(self, *entities_and_ids: tuple[str, ...]) -> None:
        """Send observations, (entity, id) or (entity, id, note), in order."""
        await self.bench.send("observations", [self.observation(*names) for names in entities_and_ids])

    async def tell(self, entity: str, identity: str, value: float) -> None:
        """Send the truth of an observation."""
        truth = {"entity": entity, "observation_id": identity, "value": value, "time": EPOCH + 60 * self._sent}
        await self.bench.send("truths", [(entity.encode(), orjson.dumps(truth), 0)])

    async def predicted(self) -> Counter[str]:
        """How often each observation was predicted."""
        return Counter(message["id"] for message in await self.bench.messages("predictions"))

    async def until_predicted(self, *identities: str) -> None:
        def are_there(seen: list[Any]) -> bool:
            return set(identities) <= {orjson.loads(record.value)["id"] for record in seen}

        await self.bench.until("predictions", are_there)

    async def positions(self, role: str) -> int:
        """What the group has committed for an input; 0 if nothing."""
        async with admin(self.bench.settings.kafka) as client:
            found = await committed(client, self.bench.settings.app)
        return next((offset for tp, offset in found.items() if tp.topic == getattr(self.bench.settings.topics, role)), 0)

    async def until_committed(self, role: str, offset: int) -> None:
        await until(self.bench.worker, lambda: self._is_committed(role, offset))

    async def _is_committed(self, role: str, offset: int) -> bool:
        return await self.positions(role) >= offset

    async def freeze(self, worker: Worker) -> None:
        """Stop a worker in the middle of what it does, and wait until the group has no member left."""
        worker.signal(signal.SIGSTOP)
        await until(worker, self._is_group_empty)

    async def _is_group_empty(self) -> bool:
        settings = self.bench.settings
        async with admin(settings.kafka) as client:
            return not (await describe_group(client, settings.app, changelog_topic(settings))).members

    async def survives(self, worker: Worker, event: Awaitable[None]) -> None:
        """Wait until something has happened; the worker must not end before."""
        code = await self.end_or(worker, event)
        assert code is None, f"the worker ended with {code}:\n{worker.tail()}"

    async def end_or(self, worker: Worker, event: Awaitable[None]) -> int | None:
        """The worker's exit code, if it ends before something else has happened; else None."""
        ended, happened = asyncio.ensure_future(worker.wait()), asyncio.ensure_future(event)
        await asyncio.wait([ended, happened], return_when=asyncio.FIRST_COMPLETED)
        try:
            # Out of patience they both are at about the same time; it is the event that was waited for.
            if ended.done() and ended.exception() is None:
                return ended.result()
            await happened
            return None
        finally:
            for task in (ended, happened):
                task.cancel()
            await asyncio.gather(ended, happened, return_exceptions=True)


async def until(worker: Worker, condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is so."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not await condition():  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(POLL)
    except TimeoutError:
        pytest.fail(f"waited in vain. The worker's log ends:\n{worker.tail()}")


async def until_reached(worker: Worker, stage: Stage, point: str) -> None:
    """Wait until a worker has come to the point at which it was told to wait."""

    async def is_there() -> bool:
        assert worker.running, f"the worker ended before it came to {point!r}:\n{worker.tail()}"
        return stage.is_reached(point)

    await until(worker, is_there)


@pytest.fixture(autouse=True)
def _undone_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the counter-measure out of this process too; workers are processes of their own."""
    if (name := undone.wanted()) is not None:
        undone.apply(name, monkeypatch.setattr)


@pytest.fixture
async def scene(make_bench: Any, tmp_path: Path) -> Scene:
    """A scene with one partition, so that all records are in one order. The worker is not started."""
    places = iter(range(100))
    return Scene(await make_bench(CONFIG, partitions=1), lambda: Stage(tmp_path / f"stage-{next(places)}"))


@pytest.fixture
def app(tmp_path: Path) -> PalimpsestApp:
    """An application that is not connected: of the real classes, for what needs no Kafka."""
    settings = Settings(app="unconnected", worker={"state_dir": tmp_path})
    plan = topic_plan(settings)
    survey = Survey(tuple(plan), {spec.name: TopicState(spec.name, spec.partitions, spec.replication) for spec in plan})

    def broken(error: BaseException) -> None:
        raise error

    return build_app(settings, None, Metrics(CollectorRegistry(), settings), survey, broken, url="http://127.0.0.1:1")  # type: ignore[arg-type]
